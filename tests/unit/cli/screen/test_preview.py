"""A preview as people see it: at the terminal, in a pipe and as a page."""

import io
from html.parser import HTMLParser

from rich.console import Console

from slipway.screen.preview import page, sentences, terminal
from slipway.screen.preview.names import Names
from slipway_core.protocol.preview import (
    Amount,
    AskedByEndpoint,
    Cost,
    Extent,
    Fate,
    FileView,
    GateData,
    GatePower,
    HeldOutView,
    LeftOutView,
    Lengths,
    MemoryPart,
    MemoryView,
    OverlapView,
    Piece,
    Preview,
    RequiredGateView,
    ShownRow,
    SourceView,
    StageView,
)

HOSTILE = "<script>alert('床')</script> & [bold]no markup[/bold]"


def seen(**changes):
    stage = StageView(
        name="sft",
        objective="Chat",
        max_length=64,
        files=[
            FileView(
                field="stages[0].data.train[0].uri",
                name="/home/me/data/a.jsonl",
                split="train",
                form="Messages",
                rows=1000,
                looked_at=100,
                bytes=2048,
                weight=2.0,
            )
        ],
        rows=1000,
        documents=Amount(value=990, margin=5),
        tokens=Amount(value=50_000, margin=800),
        learned=Amount(value=20_000, margin=300),
        fates=[
            Fate(
                what="longer than maxLength: cut",
                rows=Amount(value=30, margin=4),
                examples=["/home/me/data/a.jsonl:7 (80 tokens)"],
            )
        ],
        duplicates=2,
        lengths=Lengths(
            edges=[0, 32, 64, 96], counts=[600, 370, 30], median=30, p90=50, p99=70, longest=90, above=0.03
        ),
        cost=Cost(
            extent=Extent(steps=12, sequences=64, epochs=1.5, tokens=75_000, padding=0.02),
            sources=[
                SourceView(field="a", uri="file:///home/me/data/a.jsonl", share=0.75, times=0.5),
                SourceView(field="b", uri="file:///home/me/data/b.jsonl", share=0.25, times=3),
            ],
            memory=MemoryView(
                parts=[
                    MemoryPart(name="weights", device=3 << 30),
                    MemoryPart(name="activations", device=1 << 30),
                    MemoryPart(name="checkpoint's copy", host=6 << 30),
                ],
                kind="cuda",
                processes=2,
                available=2 << 30,
                refused="stages[sft]: does not fit",
                zero_stage=1,
                micro_batch=4,
                gradient_checkpointing=True,
                precision="BF16",
                reasons={},
            ),
            parameters=1_000_000,
            trained=1_000,
            tokens_per_second=1000.0,
            speed="as stated",
            hours=75 / 3600,
        ),
        shown=[
            ShownRow(
                place="/home/me/data/a.jsonl:3",
                form="Messages",
                texts=[
                    [
                        Piece(text="<s>", layer="Special"),
                        Piece(text=HOSTILE, layer="Read"),
                        Piece(text="learn", layer="Learned"),
                        Piece(text="ed", layer="Learned"),
                        Piece(text="<end>", layer="SpecialLearned"),
                    ]
                ],
            )
        ],
    )
    return Preview(
        **{
            "run": "mine",
            "model": "hf://org/base",
            "tokenizer": "300 tokens",
            "device": "H100",
            "sampled": 0.1,
            "stages": [stage],
            "warnings": ["/home/me/data/a.jsonl: the field 'x' is not used"],
            "held_out": HeldOutView(
                documents=3, overlaps=[OverlapView(held="h.jsonl:1", training="a.jsonl:2", rule="equal", share=1.0)]
            ),
            **changes,
        }
    )


def printed(preview, **console):
    into = io.StringIO()
    terminal.show(preview, Console(file=into, width=160, highlight=False, **console))
    return into.getvalue()


def test_in_a_pipe_what_is_learned_stands_in_brackets_and_nothing_is_coloured():
    shown = printed(seen())
    assert f"<s>{HOSTILE}⟦learned<end>⟧" in shown
    assert "\x1b" not in shown
    assert "50,000 ± 800 tokens in 990 ± 5 texts of 1,000 rows; 20,000 ± 300 are learned" in shown
    assert "30 ± 4 rows: longer than maxLength: cut (a.jsonl:7 (80 tokens), …)" in shown
    assert "12 steps of 64 packed rows: 1.5 epochs, 75,000 tokens" in shown
    assert "file://a.jsonl: 75.0% of what is seen, each document 0.50 times" in shown
    assert (
        "about 4.0 GiB of memory a process, of 2.0 GiB (BF16, ZeRO stage 1, 2 processes, micro batch 4, gradient "
        "checkpointing): that does not fit"
    ) in shown
    assert "about 1 min at 1,000 tokens/s, as stated" in shown
    assert "weight 2, 100 looked at" in shown
    assert "h.jsonl:1 stands in a.jsonl:2 (equal, 100%)" in shown
    assert "Nothing stands in the way of this run." in shown


def test_of_a_run_that_trains_nothing_no_share_of_rows_is_told():
    shown = printed(seen(stages=[], sampled=1.0))
    assert "Nothing is trained: the model is judged as it is." in shown
    assert "looked at" not in shown


def test_the_memory_is_a_table_with_the_hosts_beside_a_gpu():
    lines = [line.split() for line in printed(seen()).splitlines()]
    for row in (["GPU", "host"], ["weights", "3.0", "GiB"], ["checkpoint's", "copy", "6.0", "GiB"]):
        assert row in lines
    assert ["together", "4.0", "GiB", "6.0", "GiB"] in lines
    html = page.page(seen())
    assert "<tr><td>weights</td><td>3.0 GiB</td><td></td></tr>" in html
    assert "<tr><td>together</td><td>4.0 GiB</td><td>6.0 GiB</td></tr>" in html
    on_cpu = seen().stages[0].cost.memory.model_copy(update={"kind": "cpu"})
    assert sentences.memory_table(on_cpu)[1] == ("weights", "3.0 GiB")


def test_at_a_terminal_it_is_in_colour():
    shown = printed(seen(), force_terminal=True, color_system="standard")
    assert "\x1b[1;32mlearn\x1b[0m\x1b[1;32med\x1b[0m\x1b[1;35m<end>" in shown
    assert "⟦" not in shown


def test_rows_and_names_do_not_steer_the_terminal_and_what_cannot_be_seen_is_shown_by_a_sign():
    preview = seen(warnings=["/home/me/data/a\x1b[2J.jsonl: the field 'x\u202e' is not used"])
    steering = Piece(text="a\x1b]0;title\x07\r\n\tb\x00\x7f\x9b2J\u202ecba 床 🙂 مرحبا", layer="Read")
    preview.stages[0].shown[0].texts[0][1] = steering
    coloured = printed(preview, force_terminal=True, color_system="standard")
    for shown in (printed(preview), coloured, page.page(preview)):
        assert "a␛]0;title␇␍" in shown
        assert "b␀␡⟨U+009B⟩2J⟨U+202E⟩cba 床 🙂 مرحبا" in shown
        assert "a␛[2J.jsonl" in shown
        assert not set("\x00\x07\r\x7f\x9b\u202e") & set(shown)
    assert "\x1b" not in printed(preview) + page.page(preview)


def test_a_name_is_shortened_where_it_begins_and_nowhere_else():
    names = Names("/data/")
    assert names.shorten("/data/a.jsonl:1 stands in '/data/b.jsonl'") == "a.jsonl:1 stands in 'b.jsonl'"
    assert names.shorten("file:///data/a.jsonl: 5 %") == "file://a.jsonl: 5 %"
    for other in ("/mnt/data/a.jsonl", "s3://data/a.jsonl", "hf://datasets/org/data/a.jsonl"):
        assert names.shorten(f"{other}: the field") == f"{other}: the field"


def test_what_would_end_the_run_comes_last_so_that_it_is_read():
    shown = printed(seen(problems=["/home/me/data/a.jsonl:4: no row"]))
    assert shown.rstrip().splitlines()[-2].startswith("refused a.jsonl:4: no row")
    assert "This would not run as it is." in shown


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else_and_what_rows_hold_is_text():
    html = page.page(seen())
    tags = Tags()
    tags.feed(html)
    assert not {tag for tag, _ in tags.found} & {"script", "link", "img", "iframe"}
    assert not [attrs for _, attrs in tags.found if {"src", "href"} & attrs.keys()]
    assert "http" not in html.replace("http-equiv", "")
    assert HOSTILE in tags.text
    assert [attrs["class"] for tag, attrs in tags.found if tag == "span"][-5:] == ["s", "r", "l", "l", "s l"]
    assert "maxLength 64" in html


def test_a_preview_of_nothing_is_shown_too():
    nothing = StageView(
        name="a",
        objective="CausalLM",
        max_length=8,
        files=[],
        rows=0,
        documents=Amount(value=0),
        tokens=Amount(value=0),
        learned=Amount(value=0),
    )
    assert "0 tokens in 0 texts" in printed(seen(stages=[nothing]))
    assert "0 tokens in 0 texts" in page.page(seen(stages=[nothing]))


def test_of_each_gate_it_says_what_it_can_show():
    gates = [GatePower(gate="exact_match >= 0.85", says="20 prompts: passes only with 20 of 20 right")]
    said = list(sentences.held_out(HeldOutView(prompts=20, gates=gates)))
    assert said[-1] == "exact_match >= 0.85: 20 prompts: passes only with 20 of 20 right"


def test_of_gates_that_may_rest_on_fewer_rows_it_says_which_and_why():
    gates = [
        GatePower(gate="perplexity <= 20", says="9 documents", unsure="12% of the rows were looked at"),
        GatePower(gate="exact_match >= 0.85", says="20 prompts"),
        GatePower(gate="acc of task arc >= 0.5", says="31 documents", unsure="12% of the rows were looked at"),
    ]
    said = list(sentences.held_out(HeldOutView(prompts=20, gates=gates)))
    assert said[-1] == (
        "these gates may rest on fewer rows, and show less: perplexity <= 20; acc of task arc >= 0.5: 12% of the rows "
        "were looked at"
    )


def test_of_what_is_held_out_it_says_what_is_left_out_what_is_no_overlap_and_how_much_is_not_listed():
    pairs = [
        OverlapView(held="h.jsonl:1", training="a.jsonl:2", rule="equal", share=1.0),
        OverlapView(held="h.jsonl:2", training="a.jsonl:3", rule="share", share=0.6, discounted="40% is common"),
    ]
    said = list(
        sentences.held_out(
            HeldOutView(documents=5, left_out=LeftOutView(documents=1), prompts=0, overlaps=pairs, more=7)
        )
    )
    asked = "the judge m at http://judge/v1 will be asked at most 80 questions"
    assert list(sentences.held_out(HeldOutView(prompts=40, judge=asked)))[-1] == asked
    (unread,) = sentences.held_out(HeldOutView(tasks=["arc_easy", "sums"]))
    assert unread.startswith("the rows of tasks (arc_easy, sums) are not looked at: prepare reads them, holds them ag")
    assert said[0] == "5 held-out documents and 0 prompts"
    kinds = HeldOutView(documents=5, conversations=2, of_tasks=9, prompts=1)
    for gone, words in (
        (LeftOutView(of_tasks=4), "4 of 9 documents of tasks stand in the training data"),
        (LeftOutView(documents=2, of_tasks=2), "2 of 5 held-out documents, 2 of 9 documents of tasks stand"),
        (LeftOutView(conversations=2, of_tasks=2), "2 of 2 conversations, 2 of 9 documents of tasks stand"),
    ):
        counted, left = list(sentences.held_out(kinds.model_copy(update={"left_out": gone})))
        assert counted == "5 held-out documents, 2 conversations, 9 documents of tasks and 1 prompts"
        assert left.startswith(words)
        assert left.endswith(" in the training data and are left out (onOverlap: Drop); 12 are judged by")
    assert (
        next(sentences.held_out(HeldOutView(of_tasks=9))) == "0 held-out documents, 9 documents of tasks and 0 prompts"
    )
    assert said[1] == (
        "1 of 5 held-out documents stand in the training data and are left out (onOverlap: Drop); 4 are judged by"
    )
    assert said[3:] == [
        "h.jsonl:2 shares boilerplate alone with a.jsonl:3: 40% is common",
        "and 7 more; prepare writes all of them to overlap.jsonl",
    ]


def test_the_last_bin_says_that_it_holds_longer_rows_too():
    told = Lengths(edges=[0, 32, 64, 96], counts=[600, 370, 30], median=30, p90=50, p99=70, longest=900, above=0.03)
    assert [sentences.bin_of(told, place) for place in range(3)] == ["1–32", "33–64", "65 and more"]
    assert sentences.bin_of(told.model_copy(update={"longest": 96}), 2) == "65–96"


def test_sizes_are_those_that_a_person_reads():
    assert [sentences.size(n) for n in (5, 2048, 3 << 30)] == ["5 B", "2.0 KiB", "3.0 GiB"]


def test_of_gates_it_says_what_they_will_be_measured_on_once_for_each_digest():
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    data = [
        GateData(gate="perplexity <= 20", digest=one),
        GateData(gate="bits_per_byte <= 2", digest=one),
        GateData(gate="contains >= 0.9", digest=two),
        GateData(gate="acc of task arc >= 0.5", unsure="prepare tells"),
    ]
    for shown in (
        printed(seen(held_out=HeldOutView(gate_data=data))),
        page.page(seen(held_out=HeldOutView(gate_data=data))),
    ):
        assert f"on {one}: perplexity {'<' if 'html' not in shown else '&lt;'}= 20; bits_per_byte" in shown
        assert f"on {two}: contains" in shown
        assert "no digest of acc of task arc" in shown
    unsure = [GateData(gate="perplexity <= 20", digest=one, unsure="a part was looked at")]
    shown = printed(seen(held_out=HeldOutView(gate_data=unsure)))
    assert "these digests may be others: a part was looked at" in shown


def test_it_does_not_say_that_nothing_is_in_the_way_of_a_run_that_no_model_can_pass():
    gates = [
        GatePower(gate="exact_match >= 0.99", says="no", never="evaluation.gates[0] (exact_match)"),
        GatePower(gate="bleu >= 1", says="yes"),
        GatePower(gate="empty_rate <= 0.01", says="no", never="evaluation.gates[3] (empty_rate)"),
    ]
    told = (
        "This would run, and no model could pass it: evaluation.gates[0] (exact_match), evaluation.gates[3] "
        "(empty_rate)."
    )
    never = seen(held_out=HeldOutView(gates=gates))
    for shown in (sentences.end(never), " ".join(printed(never).split()), page.page(never)):
        assert told in shown
        assert "Nothing stands in the way" not in shown
    assert "would not run" in sentences.end(never.model_copy(update={"problems": ["a.jsonl:1"]}))
    lacking = AskedByEndpoint(name="chat", gates=[RequiredGateView(gate="bleu, min 2", answered=False, says="none")])
    both = sentences.end(never.model_copy(update={"endpoint": lacking}))
    assert both == f"{told} And endpoint chat would not take its model."
    many = [gates[0].model_copy(update={"never": f"evaluation.gates[{n}] (bleu)"}) for n in range(32)]
    assert "evaluation.gates[3] (bleu) and 28 more." in sentences.end(seen(held_out=HeldOutView(gates=many)))


def test_it_says_what_an_endpoint_asks_that_the_run_does_not_answer():
    answered = RequiredGateView(gate="perplexity, max 20", answered=True, says="evaluation.gates[0] answers it")
    lacking = RequiredGateView(gate="contains, min 0.9", answered=False, says="no gate asks that")
    asked = AskedByEndpoint(name="chat", approval=True, gates=[answered, lacking])
    for shown in (printed(seen(endpoint=asked)), page.page(seen(endpoint=asked))):
        assert "perplexity, max 20: evaluation.gates[0] answers it" in shown
        assert "contains, min 0.9: NOT ANSWERED: no gate asks that" in shown
        assert "somebody has to approve the model" in shown
        assert "This would run, and endpoint chat would not take its model." in shown
    enough = AskedByEndpoint(name="chat", gates=[answered, answered.model_copy(update={"answered": None})])
    assert "Nothing stands in the way of this run." in printed(seen(endpoint=enough))
    assert "it takes any model that passes its own gates" in printed(seen(endpoint=AskedByEndpoint(name="chat")))
    assert "endpoint" not in printed(seen())
