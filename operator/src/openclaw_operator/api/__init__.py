"""The resources of group openclaw.io: pydantic models are the single source, the CRDs are generated from them."""

GROUP = "openclaw.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "openclaw"
