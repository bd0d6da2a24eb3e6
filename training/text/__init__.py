"""Word and sentence vectors that training starts from."""
