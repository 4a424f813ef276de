"""What SHOW GRANTS says, and what it does not."""

import pytest

from cdc.mysql.grants import Grants

READER = (
    "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `r`@`%`",
    "GRANT FLUSH_TABLES ON *.* TO `r`@`%`",
    "GRANT SELECT, REFERENCES ON `bill\\_ing`.* TO `r`@`%`",
    "GRANT SELECT (`id`, `a b`), INSERT (`id`), UPDATE ON `shop`.`odd ``name` TO `r`@`%` WITH GRANT OPTION",
    "GRANT ALL PRIVILEGES ON `team%`.* TO `r`@`%`",
    "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `r`@`%`",
    "GRANT `role`@`%` TO `r`@`%`",
)


@pytest.mark.parametrize(
    ("privilege", "database", "table", "held"),
    [
        ("SELECT", "bill_ing", "a", True),
        ("SELECT", "bill_ing", "*", True),
        ("SELECT", "billXing", "a", False),
        ("INSERT", "bill_ing", "a", False),
        ("SELECT", "shop", "odd `name", False),
        ("INSERT", "shop", "odd `name", False),
        ("UPDATE", "shop", "odd `name", True),
        ("UPDATE", "shop", "*", False),
        ("DROP", "team_7", "x", True),
        ("EXECUTE", "shop", "p", False),
    ],
)
def test_a_right_on_tables(privilege: str, database: str, table: str, *, held: bool) -> None:
    assert Grants.parse(READER, wildcards=True).on(privilege, database, table) is held


def test_a_right_on_the_server() -> None:
    grants = Grants.parse(READER, wildcards=True)
    assert grants.everywhere("REPLICATION CLIENT")
    assert grants.everywhere("FLUSH_TABLES")
    assert not grants.everywhere("SELECT")
    root = Grants.parse(["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"], wildcards=True)
    assert root.everywhere("RELOAD")
    assert root.on("SELECT", "any", "table")


def test_rights_that_are_taken_away_again_and_names_without_wildcards() -> None:
    lines = [
        "GRANT SELECT ON *.* TO `r`@`%`",
        "REVOKE SELECT ON `hr`.* FROM `r`@`%`",
        "GRANT DROP ON `a_c`.* TO `r`@`%`",
    ]
    grants = Grants.parse(lines, wildcards=False)
    assert grants.on("SELECT", "shop")
    assert not grants.on("SELECT", "hr", "pay")
    assert not grants.everywhere("SELECT")
    assert grants.on("DROP", "a_c")
    assert not grants.on("DROP", "abc")
