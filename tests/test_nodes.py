import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read.nodes import (
    KINDS,
    MESSAGING,
    TEMPORARY,
    destination,
    node_of,
    operation,
    parse_template,
    routing_key,
    source_of,
    template_of,
)

SHOP = source_of({"service.name": "shop", "host.name": "h1", "zone": "eu"})


@pytest.mark.parametrize(
    ("template", "values", "name"),
    [
        ("{service}.{name}", {"service": "shop", "name": "order"}, "shop.order"),
        ("{service}.{name}", {"service": "shop"}, "shop"),
        ("{service}.{name}", {"name": "order"}, "order"),
        ("{service}.{name}", {}, ""),
        ("{a}.{b}/{c}", {"a": "x", "c": "z"}, "x/z"),
        ("{a}.{b}/{c}", {"b": "y", "c": "z"}, "y/z"),
        ("queue:{a}!", {"a": "x"}, "queue:x!"),
        ("queue:{a}.{b}", {"b": "y"}, "queue:y"),
        ("queue:{a}!", {"a": ""}, ""),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{a}{b}", {"a": "x", "b": "y"}, "xy"),
        ("{ http.route }", {"http.route": "/x"}, "/x"),
    ],
)
def test_a_template_joins_what_is_there(template, values, name):
    assert parse_template(template).name(values) == name


@pytest.mark.parametrize("template", ["", "name", "{{name}}", "{name", "name}", "{a{b}}", "{}", "{ }", "{a}{"])
def test_a_wrong_template_says_how_to_write_one(template):
    with pytest.raises(TraceError, match=r"not a template of node names.*such as '\{service\}"):
        parse_template(template)


def test_a_template_tells_each_field_once():
    assert parse_template("{b}/{a}/{b}").fields == ("b", "a")
    assert template_of(None) is None
    assert template_of("{a}") == parse_template("{a}")


@given(st.text(max_size=12) | st.text("{}ab", max_size=8))
def test_a_template_is_parsed_or_refused(text):
    try:
        template = parse_template(text)
    except TraceError:
        return
    assert isinstance(template.name(dict.fromkeys(template.fields, "v")), str)


@given(st.text(min_size=1), st.text(), st.text())
def test_all_text_around_fields_stands(a, before, after):
    escaped = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    assert parse_template(f"{escaped[0]}{{a}}{escaped[1]}").name({"a": a}) == before + a + after


@pytest.mark.parametrize(
    ("kind", "tags", "node"),
    [
        ("server", {}, "shop.order"),
        ("consumer", {}, "shop.order"),
        ("consumer", {"messaging.destination.name": "orders"}, "orders"),
        ("producer", {"messaging.destination.name": "orders"}, "shop.order"),
        ("client", {"messaging.destination.name": "orders", "messaging.operation.type": "receive"}, "orders"),
        ("internal", {"messaging.destination": "orders", "messaging.operation": "process"}, "orders"),
        ("", {"messaging.destination": "orders", "messaging.operation.name": "deliver"}, "orders"),
        ("client", {"messaging.destination": "orders", "messaging.operation": "publish"}, "shop.order"),
        ("consumer", {"messaging.destination.name": "", "messaging.destination": "old"}, "old"),
        ("consumer", {"rabbit.queue": "q"}, "q"),
        ("consumer", {"kafka.topic": "t"}, "t"),
    ],
)
def test_handling_a_message_is_an_event_of_its_destination(kind, tags, node):
    assert node_of(None, SHOP, "order", kind, "", tags) == node


def test_what_is_known_of_service_and_name_is_the_node():
    nobody = source_of({})
    assert node_of(None, nobody, "order", "", "", {}) == "order"
    assert node_of(None, SHOP, "", "", "", {}) == "shop"
    assert node_of(None, nobody, "", "", "", {}) == ""


def test_destinations_made_for_one_use_are_one_node():
    tags = {"messaging.destination.name": "amq.gen-17", "messaging.destination.temporary": "true"}
    assert destination(tags) == TEMPORARY
    assert destination(tags | {"messaging.destination.temporary": "false"}) == "amq.gen-17"
    assert destination({"messaging.destination.anonymous": "true"}) == TEMPORARY
    assert destination(tags | {"messaging.destination.template": "replies/{id}"}) == "replies/{id}"


def test_routing_keys_old_and_new():
    assert routing_key({}) is None
    assert routing_key({"messaging.rabbitmq.routing_key": ""}) == ""
    assert routing_key({"messaging.rabbitmq.destination.routing_key": "a.b", "rabbit.routing_key": "c"}) == "a.b"
    assert routing_key({"messaging.kafka.message.key": "k"}) is None


def test_a_template_knows_fields_and_attributes():
    tags = {
        "http.route": "/x",
        "messaging.destination": "q",
        "rabbit.routing_key": "k",
        "messaging.operation": "process",
    }
    template = parse_template("{service}|{name}|{kind}|{scope}|{destination}|{key}|{operation}|{http.route}|{zone}")
    assert node_of(template, SHOP, "n", "server", "lib", tags) == "shop|n|server|lib|q|k|process|/x|eu"
    # The span's attribute comes before its resource's.
    assert node_of(parse_template("{zone}"), SHOP, "n", "", "", {"zone": "us"}) == "us"
    assert node_of(parse_template("{nothing}"), SHOP, "n", "", "", {}) == ""


def test_the_worker_is_the_closest_name_of_a_process():
    assert SHOP.worker == "h1"
    assert source_of({"service.instance.id": "i", "host.name": "h"}).worker == "i"
    assert source_of({"k8s.pod.name": "p"}).worker == "p"
    assert source_of({}).worker is None


@given(st.dictionaries(st.sampled_from(sorted(MESSAGING)), st.sampled_from(["", "a", "true", "process"])), st.data())
def test_nothing_but_the_listed_attributes_matters(tags, data):
    more = data.draw(st.dictionaries(st.text(min_size=1).filter(lambda key: key not in MESSAGING), st.text()))
    for kind in KINDS:
        assert node_of(None, SHOP, "n", kind, "", tags) == node_of(None, SHOP, "n", kind, "", tags | more)
    assert (routing_key(tags), operation(tags)) == (routing_key(tags | more), operation(tags | more))
