# Run in a shell in the workspace: a small git repository, then new work in it that nobody has committed.
set -eu
cd /workspace
export HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.com GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.com

if [ ! -d .git ]; then
  git init --quiet --initial-branch=main
  mkdir -p shop tests
  printf '# Shop\n\nPrices and orders of a small shop.\n' > README.md
  cat > shop/prices.py <<'PYTHON'
def total(prices: list[int]) -> int:
    """The sum of prices in cents."""
    return sum(prices)
PYTHON
  git add --all
  git commit --quiet --message 'feat: add prices'
fi

n=$(git rev-list --count HEAD)
cat >> shop/prices.py <<PYTHON


def discount_$n(cents: int, percent: int) -> int:
    """A price after discount number $n."""
    return cents * (100 - percent) // 100
PYTHON
cat > "tests/test_discount_$n.py" <<PYTHON
from shop.prices import discount_$n


def test_discount() -> None:
    assert discount_$n(1000, 25) == 750
PYTHON
git status --short --untracked-files=all
