"""Generated images of shapes on photographs, with expressions that refer to them."""
