"""The contract between agent and collector: messages and their conversion to and from the words of `gengfu_checks`."""
