"""docs/architecture.md is the contract, so it keeps step with the code: its tables are compared with what the code has.

What is marked as not built yet has to be missing in the code: whoever builds it finds this test failing until the
remark is gone. docs/protocols.md and docs/glossary.md belong to the same contract.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sidecar.cli.config_file import DEFAULT_CONFIGS
from sidecar.cli.main import SECTIONS
from sidecar.config.effective import changed_keys, config_tree, flat
from sidecar.config.errors import Reporter
from sidecar.config.load import loads
from sidecar.config.schema import Config
from sidecar.config.unknown import LATER_KEYS
from sidecar.config.yaml_nodes import Mapping, Node, read
from sidecar.proxy.problem import STATUS, TITLES, Problem
from sidecar.telemetry import metrics
from tests.support.daemon import ROOT
from tests.support.metrics_page import listed

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("architecture", "protocols", "glossary")}
PAGE = PAGES["architecture"]
REMARK = "*(not built yet)*"
IN_YAML = "# not built yet"


def section(title: str, page: str = PAGE) -> str:
    """From a heading to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,2}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading {title!r}"
    if len(found[1]) > 2:
        return re.split(r"^#+ ", found[2], maxsplit=1, flags=re.MULTILINE)[0]
    return found[2]


def flowing(title: str) -> str:
    """A section as one line."""
    return " ".join(section(title).split())


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    heads = [at for at, cells in enumerate(lines) if set("".join(cells)) <= set("-:| ")]
    left_out = {at - back for at in heads for back in (0, 1)}
    found = [cells for at, cells in enumerate(lines) if at not in left_out]
    assert found
    return found


def named(cell: str) -> set[str]:
    """What stands in a cell as code."""
    return set(re.findall(r"`([^`]+)`", cell))


def marked(cell: str) -> bool:
    return REMARK in cell


def sources(*folders: str) -> Iterator[ast.Module]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ast.parse(path.read_text())


# Reasons.

REASONS = {next(iter(named(cells[0]))): cells for cells in rows(section("Reasons"))}


def words(node: ast.AST | None) -> set[str]:
    """The strings in an expression that could be a reason, those of its alternatives too."""
    if isinstance(node, ast.IfExp):
        return words(node.body) | words(node.orelse)
    if isinstance(node, ast.Tuple):
        return {word for part in node.elts for word in words(part)}
    text = node.value if isinstance(node, ast.Constant) else None
    return {text} if isinstance(text, str) and re.fullmatch(r"[a-z_]+", text) else set()


def called(node: ast.AST) -> str:
    """The name of what is called; empty where nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_set(assignment: ast.Assign, name: str) -> bool:
    """Whether this name is among those that are assigned to."""
    return name in re.findall(r"\w+", ast.unparse(assignment.targets[0]))


def given_reasons() -> set[str]:
    """The reasons that the code gives: at each place where one is raised, recorded, answered, noted or returned."""
    tell = {
        *("Lost", "NotRouted", "_answer", "_failed", "_ends_with", "_record", "abandon", "note", "_send_problem"),
        *("connect_failed", "request"),
    }
    found: set[str] = set()
    for module in [*sources("sidecar/proxy"), *sources("sidecar/runtime")]:
        for node in ast.walk(module):
            given: list[ast.AST | None] = []
            if isinstance(node, ast.Call):
                given += node.args[:2] if called(node) in tell else ()
                given += [one.value for one in node.keywords if one.arg == "reason"]
            elif isinstance(node, ast.Return) or (isinstance(node, ast.Assign) and is_set(node, "reason")):
                given.append(node.value)
            found |= {word for one in given for word in words(one)}
    return found


def test_the_reason_table_has_what_the_code_gives() -> None:
    given = given_reasons() & {*REASONS, *TITLES, *STATUS}
    assert {reason for reason, cells in REASONS.items() if not marked(cells[0])} == given
    assert not {reason for reason, cells in REASONS.items() if marked(cells[0])} & given


def test_no_reason_is_missing() -> None:
    """Neither one that has a title or a status, nor one that is raised."""
    assert {*TITLES, *STATUS} <= set(REASONS)
    raised = {
        word
        for module in sources("sidecar/proxy")
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and called(node) in {"Lost", "_answer"}
        for word in words(next(iter(node.args), None))
    }
    assert raised
    assert raised <= set(REASONS)


@pytest.mark.parametrize("reason", [reason for reason in STATUS if reason != "truncated"])
def test_a_reason_has_its_status(reason: str) -> None:
    assert re.findall(r"\d{3}", REASONS[reason][2])[:1] == [str(STATUS[reason])]


def test_a_bad_request_has_the_statuses_that_are_given() -> None:
    given = {
        node.args[0].value
        for module in sources("sidecar/proxy")
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and called(node) == "BadRequest" and isinstance(node.args[0], ast.Constant)
    }
    assert set(map(int, re.findall(r"\d{3}", REASONS["bad_request"][2]))) == given


def test_a_problem_has_the_members_that_are_named() -> None:
    text = flowing("Reasons").split("`application/problem+json` (RFC 9457) with ")[1].split("It bears")[0]
    members = set(msgspec.json.decode(Problem(status=503, reason="overloaded", detail="x").body()))
    attempt = {"endpoint", "reason", "status", "duration_ms"}
    assert named(text) - (attempt - members) == members


def test_grpc_statuses_are_for_reasons_that_exist() -> None:
    found = {word for cells in rows(section("HTTP/2 and gRPC", PAGES["protocols"])) for word in named(cells[0])}
    assert found <= set(REASONS)
    assert set(REASONS) - found == {"ok", "status", "stale_connection", "aggregate_failed"}


def test_events_of_a_breaker() -> None:
    text = flowing("Breaker").split("- Events: ")[1]
    assert named(text) == set(metrics.BREAKER_EVENTS)


# The shape.

CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}


def test_layers_are_those_of_the_import_contract() -> None:
    written = [cells[0] for cells in rows(section("Layers"))]
    contract = [{name.strip(" ()") for name in row.split("|")} for row in CONTRACTS["layers"]["layers"]]
    assert [named(cell) for cell in written if not marked(cell)] == contract


def test_a_layer_that_is_not_built_is_not_there() -> None:
    for cells in rows(section("Layers")):
        for name in named(cells[0]):
            there = any((ROOT / "sidecar" / one).exists() for one in (name, f"{name}.py"))
            assert there is not marked(cells[0]), name


def test_what_policy_may_not_import() -> None:
    text = flowing("Layers").split("imports none of these modules")[1].split(". ")[0]
    assert named(text) == set(CONTRACTS["policy-is-pure"]["forbidden_modules"])


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    names = {name for name in named(text) if re.fullmatch(r"[\w.][\w./-]*(\.(py|md|toml|yaml)|/)", name)}
    names -= {"sidecar.yaml", "./sidecar.yaml", "./config/sidecar.yaml", "/etc/sidecar/sidecar.yaml"}
    assert names
    for name in names:
        places = [ROOT, ROOT / "sidecar", ROOT / "sidecar" / "proxy"]
        assert any((place / name).exists() for place in places), name


# The configuration.


def yaml_block() -> str:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", section("The configuration file"), re.MULTILINE | re.DOTALL)
    return block


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, int]]:
    """(key path, line) of each value of a mapping."""
    assert isinstance(node, Mapping)
    for key, entry in node.entries.items():
        here = f"{path}.{key}" if path else key
        if isinstance(entry.node, Mapping) and entry.node.entries:
            yield from leaves(entry.node, here)
        else:
            yield here, entry.line


def defaults(config: Config) -> dict[str, object]:
    """Key path -> value, of all keys that are not a service's."""
    return {path: one.value for path, one in flat(config_tree(config, {})) if not path.startswith("services.")}


NONE_SET = defaults(loads("services: {}", "nothing set", {}))


def written_keys() -> dict[str, bool]:
    """Key path -> whether it is marked, of the keys in the block that are not a service's."""
    text = yaml_block()
    remarks = {at for at, line in enumerate(text.splitlines(), 1) if IN_YAML in line}
    root = read(text, Reporter("architecture.md"))
    assert root is not None
    return {path: line in remarks for path, line in leaves(root) if not path.startswith("services.")}


def test_the_defaults_in_the_block_are_the_real_ones() -> None:
    """Each key that is not marked: loaded, it changes nothing."""
    built = "".join(line for line in yaml_block().splitlines(keepends=True) if IN_YAML not in line)
    config = loads(built, "architecture.md", {})
    nothing_set = loads("services: {}", "nothing set", {})
    differing = [key for key in changed_keys(nothing_set, config) if not key.startswith("services.")]
    assert differing == []
    assert config.services


def test_every_key_with_a_default_is_in_the_block() -> None:
    written = set(written_keys())
    missing = [key for key in NONE_SET if key not in written and not any(one.startswith(f"{key}.") for one in written)]
    assert missing == []


def test_a_key_that_is_marked_is_not_built() -> None:
    assert written_keys()
    for key in [key for key, is_marked in written_keys().items() if is_marked]:
        assert key not in NONE_SET, f"{key} is built: remove its remark"


def test_services_are_those_of_the_reference_file() -> None:
    cells = [cell for row in rows(section("The tree")) if len(row) == 4 for cell in row]
    written = {name: url for name, url in zip(cells[::2], cells[1::2], strict=True) if name}
    config = loads((ROOT / "config" / "sidecar.yaml").read_text(), "config/sidecar.yaml", {})
    assert written == {name: str(service.endpoints[0].url) for name, service in config.services.items()}


def test_later_keys() -> None:
    text = flowing("The configuration file").split("**Later keys**")[1].split(". ")[0]
    assert named(text) - {"check"} == LATER_KEYS


# Names that others build on.


def test_promised_metrics_exist_with_their_labels() -> None:
    known = listed()
    for name, labels in rows(section("Names that others build on")):
        (metric,) = named(name)
        assert known[metric][1] == named(labels), metric


def test_commands() -> None:
    text = flowing("Names that others build on").split("Commands: ")[1].split(". Those that read")[0]
    written = {name: marked(part) for part in text.split(",") for name in named(part)}
    there = {name for section in SECTIONS.values() for name in section}
    assert {name for name, is_marked in written.items() if not is_marked} == there
    assert not {name for name, is_marked in written.items() if is_marked} & there


def test_places_of_the_configuration() -> None:
    text = flowing("Names that others build on").split("without it they look for ")[1].split(". Exit codes")[0]
    assert [Path(place) for place in re.findall(r"`([^`]+)`", text)] == list(DEFAULT_CONFIGS)


# The remark, and the glossary.


@pytest.mark.parametrize("page", PAGES)
def test_the_remark_has_one_form(page: str) -> None:
    """So that it can be searched for."""
    text = PAGES[page].replace(REMARK, "").replace(IN_YAML, "").replace("(not built yet)*", "")
    assert not re.search(r"not (yet )?built|not implemented|to be built", text, re.IGNORECASE)


def test_until_then_stands_where_something_is_not_built() -> None:
    for page in PAGES.values():
        for paragraph in re.split(r"\n\n|\n(?=[-|])", page):
            if re.search(r"\buntil then\b", paragraph, re.IGNORECASE) and '"Until then"' not in paragraph:
                near = page[max(0, page.index(paragraph) - 400) : page.index(paragraph)] + paragraph
                assert "not built yet" in near, paragraph


def test_the_list_of_other_words_is_up_to_date() -> None:
    for names, places, _ in rows(section("Where the code still says otherwise", PAGES["glossary"])):
        paths = [ROOT / place for place in sorted(named(places))]
        for name in named(names):
            assert any(re.search(rf"\b{name}\b", path.read_text()) for path in paths), f"{name} is gone"


def test_a_word_has_one_definition() -> None:
    terms = [cells[0] for cells in rows(PAGES["glossary"].split("## Where the code")[0]) if len(cells) == 3]
    words = [word for term in terms for word in term.split(", ")]
    assert sorted(words) == sorted(set(words)) or {word for word in words if words.count(word) > 1} == {"probe"}
