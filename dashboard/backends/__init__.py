"""One folder per queue library; nothing of a library is known outside its folder."""
