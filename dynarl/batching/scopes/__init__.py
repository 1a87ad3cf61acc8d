"""Join scopes in a user's program: statements, functions and Modules at whose end samples are together again."""
