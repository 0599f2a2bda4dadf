"""Where the package of a Skill comes from, and what proves that it is the right one."""

from __future__ import annotations

from pydantic import Field

from openclaw_operator.api.base import HOST_PORT, KeyRef, LocalRef, Model, SecretSource, cel, schema_extra

# Host and repository path as OCI has them: a first part without dot, colon and the name localhost would be a path.
_NAME = r"[a-zA-Z0-9-]+"
_HOST = rf"(localhost|{_NAME}(\.{_NAME})+|[a-zA-Z0-9.-]+:[0-9]{{1,5}}|\[[0-9a-fA-F:]+\])(:[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
OCI_REPOSITORY = rf"(oci://)?{_HOST}(/{_PART})+"
OCI_REFERENCE = rf"^{OCI_REPOSITORY}(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?@sha256:[0-9a-f]{{64}}$"
SHA256 = r"^(sha256:)?[0-9a-f]{64}$"
_EXACTLY_ONE = (
    "(has(self.inline) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.oci) ? 1 : 0) + "
    "(has(self.archive) ? 1 : 0) == 1"
)


class InlineSource(Model):
    """The files of the skill, written in the resource."""

    files: dict[str, str] = Field(
        min_length=1,
        max_length=512,
        description="Path to text, for example {SKILL.md: ..., scripts/main.py: ...}.",
    )


class OciSource(Model):
    """A skill that `openclaw registry publish` put into an OCI registry."""

    model_config = schema_extra(
        cel(
            "self.reference.contains('@sha256:')",
            "the reference must end in the digest, HOST/PATH:VERSION@sha256:...: openclaw registry publish prints it, "
            "and openclaw registry list HOST/PATH --json",
            ".reference",
        ),
        cel(
            f"!self.reference.contains('@sha256:') || self.reference.matches(r'{OCI_REFERENCE}')",
            "the reference must be HOST/PATH[:VERSION]@sha256:DIGEST, with the registry's host, a path in lower case "
            "and 64 hex digits",
            ".reference",
        ),
        cel(
            "!has(self.plainHTTP) || !self.plainHTTP || !has(self.caBundleRef)",
            "caBundleRef needs TLS: remove it, or plainHTTP",
            ".caBundleRef",
        ),
    )
    reference: str = Field(
        min_length=1,
        max_length=512,
        description="Registry, repository and digest of the artifact: HOST/PATH[:VERSION]@sha256:DIGEST.",
    )
    pull_secret_ref: LocalRef | None = Field(
        None, description="Secret of type kubernetes.io/dockerconfigjson with the registry's credentials."
    )
    plain_http: bool = Field(
        False, alias="plainHTTP", description="The registry speaks no TLS. Credentials then cross the network readable."
    )
    ca_bundle_ref: KeyRef | None = Field(
        None, description="Key of a ConfigMap with PEM certificates to trust besides the well-known ones."
    )


class ArchiveSource(Model):
    """A .tar.gz or .zip file on a web server."""

    model_config = schema_extra(
        cel(
            "self.url.startsWith('https://') || (has(self.plainHTTP) && self.plainHTTP)",
            "use an https:// address, or set plainHTTP: true",
            ".url",
        ),
        cel(
            "!has(self.authorization) || self.url.startsWith('https://')",
            "authorization needs an https:// address: the header would cross the network readable",
            ".authorization",
        ),
    )
    url: str = Field(pattern=rf"^https?://{HOST_PORT}/[^\s#]*$", max_length=2048, description="Address of the archive.")
    sha256: str = Field(pattern=SHA256, max_length=71, description="What sha256sum prints for the file.")
    path: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)?$",
        max_length=255,
        description="Folder of the skill in the archive. A single folder around everything is stepped into by itself.",
    )
    authorization: SecretSource | None = Field(
        None, description="Value of the Authorization header, for example 'Bearer ...'. It never follows a redirect."
    )
    plain_http: bool = Field(False, alias="plainHTTP", description="Allow an http:// address.")
    ca_bundle_ref: KeyRef | None = Field(
        None, description="Key of a ConfigMap with PEM certificates to trust besides the well-known ones."
    )


class SkillSource(Model):
    """Where the files of the skill come from."""

    model_config = schema_extra(cel(_EXACTLY_ONE, "set exactly one of inline, configMapRef, oci and archive"))
    inline: InlineSource | None = Field(None, description="Files written in the resource.")
    config_map_ref: LocalRef | None = Field(
        None, description="A ConfigMap whose keys are paths, with __ in place of each /."
    )
    oci: OciSource | None = Field(None, description="An artifact of an OCI registry, pinned by digest.")
    archive: ArchiveSource | None = Field(None, description="An archive on a web server, pinned by its sha256.")

    @property
    def remote(self) -> OciSource | ArchiveSource | None:
        """The source that has to be fetched, None for those in the cluster."""
        return self.oci or self.archive


class KeySource(Model):
    """Where a public key comes from."""

    model_config = schema_extra(
        cel(
            "has(self.configMapKeyRef) != has(self.secretKeyRef)",
            "set exactly one of configMapKeyRef and secretKeyRef",
        )
    )
    config_map_key_ref: KeyRef | None = Field(None, description="The key of a ConfigMap that holds the PEM text.")
    secret_key_ref: KeyRef | None = Field(
        None, description="The key of a Secret that holds the PEM text, for example cosign.pub."
    )


class CosignSignature(Model):
    """A signature that cosign made with a key pair. Certificates and transparency logs are not looked at."""

    model_config = schema_extra(
        cel("has(self.publicKey) != has(self.publicKeyRef)", "set exactly one of publicKey and publicKeyRef")
    )
    public_key: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="PEM of the public key (cosign.pub): ECDSA P-256 or Ed25519.",
    )
    public_key_ref: KeySource | None = Field(None, description="Where the public key is kept.")
    signature: str | None = Field(
        None,
        min_length=1,
        max_length=32768,
        description="Signature over the package's uncompressed tar, in base64 or as the bundle cosign sign-blob "
        "writes. Unset, it is looked up in the registry of source.oci, as cosign sign leaves it there.",
    )


class Signature(Model):
    """What the package must be."""

    model_config = schema_extra(cel("has(self.sha256) || has(self.cosign)", "set sha256, cosign or both"))
    sha256: str | None = Field(
        None, pattern=SHA256, max_length=71, description="Digest of the package, as in status.digest."
    )
    cosign: CosignSignature | None = Field(None, description="Accept only what the holder of this key signed.")
