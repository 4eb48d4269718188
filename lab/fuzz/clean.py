"""Well-framed requests with strange contents, by grammar and by mutation of recorded ones."""

from collections.abc import Callable

from lab.fuzz.requests import CREDENTIALS, HOST, Dice, FuzzCase, Sample

Parameters = list[bytes]
Mutation = Callable[[Parameters, Dice], None]

VALUES = (
    *rb"""
    %00 a%00b %ff %c0%af %ed%a0%80 %f4%90%80%80 % %4 %zz %u0041 %25252e %252f + %2B %20 %09 %0a%0a
    %0d%0aSet-Cookie:%20a=b %e2%80%ae %F0%9F%98%80 %3Cscript%3Ealert(1)%3C/script%3E {{7*7}}
    {local_alias.__class__} ${jndi:ldap://x} '%20or%20'1'='1 ..%2f..%2f..%2fetc%2fpasswd None null
    True False true NaN -1 1e999 0x10 %D9%A1%D9%A2 [] [%22a%22] %5B%5B%5B %22credentials%22 sso
    sip%3Aa%40b sip:[::1]:5060;transport=tls h323:%2B47 @ %40%40 ; a=b=c ? ?a?b non_dial dial_out
    * (?:a%2B)%2B$
    """.split(),
    b"",
    b"9" * 400,
    b"A" * 251,
    b"%CC%81" * 60,
)
NAMES = (
    *rb"""
    local_alias idp_attribute_ idp_attribute_%00 idp_attribute_a%20b p_Asserted-Identity width limit
    P-ASSERTED-IDENTITY ms-subnet LOCAL_ALIAS __proto__ %6cocal_alias %ff % remote_address
    send_to_audio_mixes_mix_name receive_from_video_mix~x call_direction protocol auth_type q
    """.split(),
    b"",
    b"a" * 300,
)
PATHS = (
    *rb"""
    / // /. /.. /policy /policy/v1 /policy/v1/ /policy/v2/service/configuration /* /livez /readyz
    /policy/v1/service/configuration/ /policy/v1//service/configuration /metrics /favicon.ico
    /POLICY/V1/SERVICE/CONFIGURATION /policy/v1/service%2fconfiguration /policy/v1/./registrations
    /policy/v1/participant/../registrations /policy/v1/registrations/ /policy/v1/registrations/%00
    /policy/v1/registrations/..%2f..%2fetc%2fpasswd /policy/v1/registrations/a/b/c /.git/config
    /policy/v1/registrations/%2e%2e /policy/v1/participant/avatar/ /%70olicy/v1/registrations
    /policy/v1/participant/avatar/..%5c..%5cwin.ini /policy/v1/participant/avatar/%ff%fe
    /policy/v1/participant/avatar//etc/passwd /policy/v1/participant/avatar/a%0d%0ab
    //evil.example.com/policy/v1/registrations /policy/v1/registrations;a=b
    /policy/v1/registrations%3fq=a /policy/v1/participant/audioavatar/a
    http://policy.example.com/policy/v1/registrations HTTP://x:80/policy/v1/service/configuration
    /policy/v1/registrations#fragment /policy/v1/registrations/%25%32%65
    """.split(),
    b"/policy/v1/registrations/" + b"%41" * 400,
    b"/policy/v1/registrations/" + b"%2F" * 200,
    b"/" + b"a/" * 500,
)
PATH_PIECES = rb"%2f / // ..%2f /../ %00 %2e%2e/ ; %5c %0a % .".split()
PATHS_WITH_TOKEN = rb"""
    /%b /policy/v1/%b /policy/v1/registrations/%b /policy/v1/registrations/a@%b
    /policy/v1/participant/avatar/sip%%3A%b%%40x
    """.split()
PARAMETERS_WITH_TOKEN = rb"""
    %b=1 unknown=%b vendor=%b remote_display_name=a%%20%b call_tag=%b =%b third_party_passcode=%b
    idp_attribute_x=%b location=%b %b
    """.split()
METHODS = b"HEAD HEAD POST PUT DELETE PATCH OPTIONS TRACE PROPFIND SEARCH".split()
HEADERS = (
    *(b"Accept: */*", b"Accept-Encoding: gzip, br, zstd", b"Accept-Language: " + b"a," * 500),
    *(b"Range: bytes=0-1", b"If-None-Match: *", b"If-Modified-Since: yesterday"),
    *(
        b"X-Forwarded-For: 10.0.0.1",
        b"X-HTTP-Method-Override: DELETE",
        b"Via: 1.1 a",
        b"Forwarded: for=",
    ),
    *(b"Content-Length: 0", b"Content-Type: application/json", b"Connection: keep-alive"),
    *(b'Cookie: a=b; "=;;', b"User-Agent: ", b"Origin: null", b"X-Latin: \xe9\xff"),
)
AUTHORIZATIONS = (
    *(b"", b"Authorization: \xff\r\n", b"authorization: basic OjpA\r\n"),
    *(
        b"Authorization: Basic %b\r\n" % text
        for text in (b"!!!", b"YQ==", b"/////w==", b"QUFB" * 1000)
    ),
    *(b"Authorization: %b\r\n" % text for text in (b"Basic", b"Bearer x", b"Digest a=b")),
)


def alter_value(parameters: Parameters, dice: Dice) -> None:
    at = dice.rng.randrange(len(parameters))
    parameters[at] = parameters[at].partition(b"=")[0] + b"=" + dice.rng.choice(VALUES)


def alter_name(parameters: Parameters, dice: Dice) -> None:
    at = dice.rng.randrange(len(parameters))
    # A room's name may hold local_alias: the token must not become one.
    if dice.token not in parameters[at]:
        parameters[at] = dice.rng.choice(NAMES) + b"=" + parameters[at].partition(b"=")[2]


def drop(parameters: Parameters, dice: Dice) -> None:
    if len(parameters) > 1:
        parameters.pop(dice.rng.randrange(len(parameters)))


def repeat(parameters: Parameters, dice: Dice) -> None:
    name = dice.rng.choice(parameters).partition(b"=")[0]
    at = dice.rng.randrange(len(parameters))
    parameters.insert(at, name + b"=" + dice.rng.choice(VALUES))


def shuffle(parameters: Parameters, dice: Dice) -> None:
    dice.rng.shuffle(parameters)


def mark(parameters: Parameters, dice: Dice) -> None:
    parameters.append(dice.rng.choice(PARAMETERS_WITH_TOKEN) % dice.token)


def scar(parameters: Parameters, dice: Dice) -> None:
    rng = dice.rng
    at = rng.randrange(len(parameters))
    old = parameters[at]
    cut = rng.randrange(len(old) + 1)
    parameters[at] = old[:cut] + b"%%%02x" % rng.randrange(256) + old[cut + rng.randrange(3) :]


def empty(parameters: Parameters, dice: Dice) -> None:
    piece = dice.rng.choice((b"", b"=", b"==", b"&", b"a", b"=a"))
    parameters.insert(dice.rng.randrange(len(parameters)), piece)


def swell(parameters: Parameters, dice: Dice) -> None:
    count = dice.rng.randrange(60)
    values = dice.rng.choices(VALUES, k=count)
    parameters += [b"idp_attribute_%d=%b" % (n, value) for n, value in enumerate(values)]


# What finds most comes more often.
MUTATIONS: tuple[Mutation, ...] = (
    *(alter_value, alter_value, alter_value, alter_name, scar, scar, mark, mark),
    *(drop, repeat, shuffle, empty, swell),
)


def strange_path(path: bytes, dice: Dice) -> bytes:
    """Another path: one of the table, one that holds the token, or the old one with a scar."""
    rng = dice.rng
    way = rng.randrange(4)
    if way == 0:
        return rng.choice(PATHS)
    if way == 1:
        return rng.choice(PATHS_WITH_TOKEN) % dice.token
    cut = rng.randrange(1, len(path) + 1)
    return path[:cut] + rng.choice(PATH_PIECES) + path[cut + rng.randrange(2) :]


def strange_headers(dice: Dice) -> bytes:
    """A few headers, each at most once, and the token in a name and in a value."""
    lines = dice.rng.sample(HEADERS, k=dice.rng.randrange(1, 5))
    return b"\r\n".join([*lines, b"X-A: " + dice.token, b"X-%b: a\r\n" % dice.token])


def clean_shot(sample: Sample, dice: Dice) -> FuzzCase:
    """A request that is well framed and may be strange in every other way."""
    rng = dice.rng
    parameters = list(sample.parameters)
    for _ in range(rng.randrange(4)):
        rng.choice(MUTATIONS)(parameters, dice)
    path, method, headers, credentials = sample.path, b"GET", b"", CREDENTIALS
    chance = rng.random()
    if chance < 0.25:
        path = strange_path(path, dice)
    elif chance < 0.40:
        method = rng.choice(METHODS)
    elif chance < 0.45:
        credentials = rng.choice(AUTHORIZATIONS)
    elif chance < 0.60:
        headers = strange_headers(dice)
    query = b"&".join(parameters)
    lines = (method, path, query, HOST, credentials, headers)
    plain = path is sample.path and method == b"GET" and credentials is CREDENTIALS
    return FuzzCase(
        b"%b %b?%b HTTP/1.1\r\n%b%b%b\r\n" % lines,
        "clean",
        clean=True,
        bodyless=method == b"HEAD",
        endpoint=sample.endpoint if plain else "",
        asked=query.decode("latin-1"),
    )
