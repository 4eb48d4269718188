"""The parameters of a query are those that yarl reads in it."""

from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pexpolicy.server.http.app import query_params

ESCAPES = "%26 %3D %3d %2B %3B %25 %20 %40 %3A %00 %C3%A9 %C3 %FF %e2%82%ac %ED%A0%80 %2 %zz"
PIECES = st.sampled_from([*"ab&&==+;% ?/@é\x7f", "name=", "a=b", *ESCAPES.split()])
QUERIES = st.lists(PIECES, max_size=12).map("".join)


def url_of(query: str) -> URL:
    """The URL as aiohttp makes it of a request."""
    return URL.build(path="/policy", query_string=query, encoded=True)


@given(QUERIES)
@example("")
@example("&")
@example("=")
@example("a&b=&=c&a=1=2&&a=+%2B+")
@example("a=1&%C3=%A9")
@example("=a&b=")
@example("a=b=c&d")
@example("vendor=Cisco%2FCE&remote_alias=sip%3Aalice%40example.com&idp_uuid=&name=Alice+A")
def test_any_query_is_read_as_yarl_reads_it(query: str) -> None:
    url = url_of(query)
    assert [*query_params(url).items()] == [*url_of(query).query.items()]
