"""What every output of the program says: that it is research software."""


NOTICE = "Research software, not a medical device: do not base any decision about a person's health on what it reads."
