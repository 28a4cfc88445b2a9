"""Why a client gets no personality."""


class PersonalityError(Exception):
    """There is no such personality; its text is a sentence for the client, without any path outside the roots."""
