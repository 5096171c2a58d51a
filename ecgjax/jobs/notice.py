"""The notice of research software in every output of the program."""


NOTICE = "Research software, not a medical device: do not base any decision about a person's health on what it reads."
