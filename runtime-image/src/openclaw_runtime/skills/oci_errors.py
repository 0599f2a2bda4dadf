"""What can go wrong with a skill registry: one tree, every message one line with the cause and the fix."""

from openclaw_runtime.errors import OpenClawError


class RegistryError(OpenClawError):
    """The registry could not do what was asked."""


class ReferenceFormatError(RegistryError):
    """The name of a skill, its version or its range is malformed."""


class CredentialError(RegistryError):
    """The stored credentials cannot be used."""


class RegistryAuthError(RegistryError):
    """The registry wants other credentials, or these may not do what was asked."""


class RegistryNotFoundError(RegistryError):
    """The registry has no such repository, version or content."""


class RegistryContentError(RegistryError):
    """What the registry sent is too large, does not match its digest, or is not a skill."""


class VersionConflictError(RegistryError):
    """The version is published already, with other content. Published versions never change."""
