"""Random per-sample programs, compared in every mode with plain Python: each sample alone, values and gradients.

    python -m tests.helpers.fuzz --programs 2000 --first 0 [--features alias,draw] [--jobs 2]

`writing` writes the source of a program from templates (`constructs/`), `building` writes it to a file and imports it,
`comparing` runs it, `shrinking` deletes statements from a program that fails.
"""

from tests.helpers.fuzz.comparing import Report, check, check_source
from tests.helpers.fuzz.features import FEATURES

__all__ = ["FEATURES", "Report", "check", "check_source"]
