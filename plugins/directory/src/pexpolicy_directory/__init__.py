"""Plugin ``directory``: a phone book that registered apps search."""

from pexpolicy_directory.plugin import PhoneBook

__all__ = ["PhoneBook"]
