"""From a certificate to a user: the name in it as Java writes it, and Kafka's rules over it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabroker.config.principal_rules import PrincipalRules
from megabroker.net.distinguished_names import written

# DER of names, and what javax.security.auth.x500.X500Principal.getName makes of it (OpenJDK 17).
NAMES = [
    (
        "3031310b300906035504061302444531123010060355040a0c094f72672c20496e632e310e300c06035504030c05616c696365",
        "CN=alice,O=Org\\, Inc.,C=DE",
    ),
    (
        "301f311d301b06035504030c14206c656164232b223c3e3b3d5c20747261696c20",
        'CN=\\ lead\\#\\+\\"\\<\\>\\;\\=\\\\ trail\\ ',
    ),
    (
        "3026310e300c06035504030c0523686173683114301206092a864886f70d01090116056140622e63",
        "1.2.840.113549.1.9.1=#16056140622e63,CN=\\#hash",
    ),
    (
        (
            "30703120300c06035504030c056d756c74693010060a0992268993f22c6401010c02753131173015060a0992268993f22c640119"
            "16076578616d706c65310a300806035504090c0173310b300906035504080c027374310e300c06035504070c054bc3b66c6e310a"
            "3008060355040b0c0178"
        ),
        "OU=x,L=Köln,ST=st,STREET=s,DC=example,CN=multi+UID=u1",
    ),
    (
        "302d310c300a06035504051303313233310b3009060355040c0c0244723110300e06035504030c07202074776f2020",
        "CN=\\ \\ two\\ \\ ,2.5.4.12=#0c024472,2.5.4.5=#1303313233",
    ),
    ("3000", ""),
]


@pytest.mark.parametrize(("der", "name"), NAMES)
def test_names_are_written_as_java_does(der: str, name: str) -> None:
    assert written(bytes.fromhex(der)) == name


@given(st.binary(max_size=60))
def test_what_is_no_name_is_refused_in_order(data: bytes) -> None:
    try:
        written(data)
    except ValueError:
        pass


# The cases of Kafka's own test of its mapper: rules, name, user.
ALL = (
    "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L, "
    "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, "
    "RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U, RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U, DEFAULT"
)
MAPPED = [
    (ALL, "CN=Duke,OU=ServiceUsers,O=Org,C=US", "duke"),
    (ALL, "CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", "duke@sme"),
    (ALL, "cn=duke,ou=sme,dc=mycp,dc=com", "DUKE@SME"),
    (ALL, "DN=duke,OU=sme,CN=mycp", "MYCP"),
    (ALL, "OU=JavaSoft,O=Sun Microsystems,C=US", "OU=JavaSoft,O=Sun Microsystems,C=US"),
    ("DEFAULT", "CN=x", "CN=x"),
    ("RULE:^CN=(.*?),.*$/$1/,DEFAULT", "CN=Alice,O=x", "Alice"),
    ("RULE:^CN=(.*?),.*$/$1/", "O=x", None),
    ("RULE:^CN=(.*?),.*$/$1/", "xCN=a,b", None),
    ("RULE:^CN=((\\\\, *|\\w)+)(,.*|$)/$1/,DEFAULT", "CN=Tkac\\, Adam,OU=ITZ", "Tkac\\, Adam"),
    ("RULE:^CN=(.*?),O=a\\/b$/$1/", "CN=x,O=a/b", "x"),
    ("RULE:^CN=(.*?)$/$1@$4/", "CN=x", "x@$4"),
    ("RULE:^CN=(.*?)$/$12/", "CN=x", "x2"),
    ("RULE:^CN=(.*?)$/$0-\\$1/", "CN=x", "CN=x-$1"),
    ("RULE:^CN=(.*)$/Prefix-$1/U , , DEFAULT", "CN=x", "PREFIX-X"),
]


@pytest.mark.parametrize(("rules", "name", "user"), MAPPED)
def test_rules(rules: str, name: str, user: str | None) -> None:
    assert PrincipalRules(rules).apply(name) == user


@pytest.mark.parametrize(
    "rules",
    [
        "default",
        "DEFAUL",
        "DEFAULT/L",
        "DEFAULT/U",
        "RULE:CN=(.*?),OU=ServiceUsers.*/$1",
        "rule:^CN=(.*?),OU=ServiceUsers.*$/$1/L",
        "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L/U",
        "RULE:^CN=(.*?),OU=ServiceUsers.*$/L",
        "RULE:^CN=(.*?),OU=ServiceUsers.*$/U",
        "RULE:^CN=(.*?),OU=ServiceUsers.*$/LU",
        "RULE:(/x/",
    ],
)
def test_what_is_no_rule(rules: str) -> None:
    with pytest.raises(ValueError, match=r"RULE|regular expression"):
        PrincipalRules(rules)
