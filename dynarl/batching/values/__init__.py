"""What a per-sample program computes with: tensors, object batches, ragged sequences and nested structures of them."""
