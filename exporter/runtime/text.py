"""Text that others wrote, where it is shown to people."""


def printable(text: str, instead: str = "?") -> str:
    """Return a text without what a terminal might act on or a line would end at."""
    return "".join(char if char.isprintable() else instead for char in text)
