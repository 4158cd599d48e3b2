"""The ablations of Simonyan and Zisserman 2014, row by row."""
