//! Chat templates render as transformers renders them: small cases of every kind, written by `templates/make.py`.

use std::path::Path;

use frostline_schemas::data::{ChatTemplate, Conversation, FoundBy, Rendered, TemplateError, TemplateSettings};
use serde_json::{Map, Value as Json, json};

/// A model folder with a template.
fn folder(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    folder
}

fn open(folder: &Path) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::open(folder, &[], &TemplateSettings::default())
}

fn compiled(template: &str) -> ChatTemplate {
    open(folder(template).path()).unwrap()
}

fn render(template: &str, messages: &[Json]) -> Result<Rendered, TemplateError> {
    open(folder(template).path())?.render(&Conversation { messages, ..Conversation::default() })
}

/// The refusal of a template with the usual conversation.
fn refusal(template: &str) -> String {
    render(template, &dialogue()).unwrap_err().to_string()
}

fn dialogue() -> Vec<Json> {
    vec![
        json!({"role": "user", "content": "2+2?"}),
        json!({"role": "assistant", "content": " four "}),
        json!({"role": "user", "content": "3+3?"}),
        json!({"role": "assistant", "content": "six"}),
    ]
}

fn said(rendered: &Rendered) -> Vec<&str> {
    rendered.answers.iter().map(|answer| &rendered.text[answer.range.clone()]).collect()
}

/// A case's text, and its answers if it has any, as rendered here.
fn rendered_case(case: &Json, shared: &Json) -> Result<(String, Option<Json>), TemplateError> {
    let texts = shared["special_tokens"].as_object().unwrap();
    let special_tokens: Vec<(String, String)> =
        texts.iter().map(|(name, token)| (name.clone(), token.as_str().unwrap().into())).collect();
    let shared_variables = shared["variables"].as_object().unwrap().clone();
    let settings = TemplateSettings {
        name: None,
        date: Some(shared["date"].as_str().unwrap().parse().unwrap()),
        variables: shared_variables.into_iter().collect(),
    };
    let folder = folder(case["template"].as_str().unwrap());
    let template = ChatTemplate::open(folder.path(), &special_tokens, &settings)?;
    let empty = Map::new();
    let conversation = Conversation {
        messages: case["messages"].as_array().unwrap(),
        tools: case.get("tools"),
        documents: case.get("documents"),
        variables: Some(case["variables"].as_object().unwrap_or(&empty)),
    };
    if case.get("answers").is_none() {
        return Ok((template.render_prompt(&conversation, case["prompt"] == true)?, None));
    }
    let rendered = template.render(&conversation)?;
    assert_eq!(rendered.found_by, FoundBy::Marks);
    let answers = rendered.answers.iter().map(|answer| json!([answer.range.start, answer.range.end])).collect();
    Ok((rendered.text, Some(answers)))
}

/// Compares all cases of a file; what differs is listed.
fn compare(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates").join(file);
    let json: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut different = Vec::new();
    for case in json["cases"].as_array().unwrap() {
        let found = rendered_case(case, &json["shared"]);
        let same = match (&found, &case["text"]) {
            (Ok((text, answers)), Json::String(expected)) => {
                text == expected && answers.as_ref() == case.get("answers")
            }
            (Err(_), Json::Null) => true,
            _ => false,
        };
        if !same {
            different.push(format!(
                "{}\n  expected {} {:?}\n  found    {found:?}",
                case["template"],
                case["text"],
                case.get("answers")
            ));
        }
    }
    assert!(different.is_empty(), "{} cases differ\n{}", different.len(), different.join("\n"));
}

#[test]
fn expressions_print_as_python_prints_them() {
    compare("expressions.json");
}

#[test]
fn tags_loops_macros_and_white_space_are_jinjas() {
    compare("templates.json");
}

#[test]
fn marks_are_where_transformers_finds_them() {
    compare("marks.json");
}

#[test]
fn conversations_reach_the_template_as_transformers_hands_them_over() {
    compare("conversations.json");
}

const CHATML: &str = "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content.strip() + '<|im_end|>\\n' }}\
    {%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

/// As Qwen3: reasoning is written before the last answer alone.
const FORGETFUL: &str = "{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' }}\
    {%- if m.role == 'assistant' and loop.last %}{{ '<think>\\n' ~ m.reasoning_content | default('') ~ '\\n</think>\\n' }}{% endif %}\
    {{- m.content }}{% for call in m.tool_calls %}{{ '\\n<call>' ~ call.function | tojson ~ '</call>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}\
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

#[test]
fn answers_are_the_assistants_turns_with_their_end_and_without_the_templates_line_break() {
    let rendered = render(CHATML, &dialogue()).unwrap();
    assert_eq!(said(&rendered), ["four<|im_end|>", "six<|im_end|>"]);
    assert_eq!(rendered.found_by, FoundBy::Prefix);
    assert_eq!(rendered.answers.iter().map(|answer| answer.message).collect::<Vec<_>>(), [Some(1), Some(3)]);
    assert!(rendered.text.starts_with("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nfour"));
}

#[test]
fn answers_are_found_by_comparison_where_the_past_is_written_anew() {
    let rendered = render(FORGETFUL, &dialogue()).unwrap();
    assert_eq!(said(&rendered), [" four <|im_end|>", "<think>\n\n</think>\nsix<|im_end|>"]);
    assert_eq!(rendered.found_by, FoundBy::Comparison);

    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]);
    let messages = [
        json!({"role": "user", "content": "2+2?"}),
        json!({"role": "assistant", "content": "", "tool_calls": call}),
        json!({"role": "tool", "content": "4"}),
        json!({"role": "assistant", "content": "four"}),
    ];
    let rendered = render(FORGETFUL, &messages).unwrap();
    let called = "\n<call>{\"name\": \"add\", \"arguments\": {\"a\": 2}}</call><|im_end|>";
    assert_eq!(said(&rendered), [called, "<think>\n\n</think>\nfour<|im_end|>"]);
}

#[test]
fn results_that_a_template_writes_within_an_answer_are_no_part_of_it() {
    // The call, what came of it, and only then the words that came with the call.
    let within = "{% for m in messages if m.role != 'tool' %}<{{ m.role }}>{% for c in m.tool_calls or [] %}\
        <call>{{ c.function.name }}{{ c.function.arguments | tojson }}</call>{% for r in messages if r.role == 'tool' %}\
        <result>{{ r.content }}</result>{% endfor %}{% endfor %}{{ m.content }}<end>{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]);
    let messages = [
        json!({"role": "user", "content": "2+2?"}),
        json!({"role": "assistant", "content": "I count.", "tool_calls": call}),
        json!({"role": "tool", "content": "RRR"}),
        json!({"role": "assistant", "content": "four"}),
    ];
    let rendered = render(within, &messages).unwrap();
    assert!(rendered.text.contains("</call><result>RRR</result>I count.<end>"), "{}", rendered.text);
    assert_eq!(said(&rendered), ["<call>add{\"a\": 2}</call>", "I count.<end>", "four<end>"]);
}

#[test]
fn another_end_after_the_last_answer_is_no_end_of_earlier_ones() {
    let ending = "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ ('<|return|>' if loop.last and m.role == 'assistant' \
        and not add_generation_prompt else '<|end|>') }}{% endfor %}{{ '<|assistant|>' if add_generation_prompt }}";
    assert_eq!(said(&render(ending, &dialogue()).unwrap()), [" four <|end|>", "six<|return|>"]);
}

#[test]
fn a_prompt_that_is_always_written_is_no_part_of_the_last_answer() {
    let always = "{% for m in messages %}{{ '<|h|>' ~ m.role ~ '<|/h|>' ~ m.content ~ '<|eot|>' }}{% endfor %}{{ '<|h|>assistant<|/h|>' }}";
    assert_eq!(said(&render(always, &dialogue()).unwrap()), [" four <|eot|>", "six<|eot|>"]);
}

#[test]
fn the_header_of_a_template_that_knows_no_prompt_is_no_part_of_an_answer() {
    let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}{% endfor %}\
        {{ m.content }}<|im_end|>\n{% endfor %}";
    assert_eq!(said(&render(chatml, &dialogue()).unwrap()), [" four <|im_end|>", "six<|im_end|>"]);
    let called = [
        json!({"role": "user", "content": "2+2?"}),
        json!({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add"}}]}),
        json!({"role": "assistant", "content": "<|im_end|>"}),
    ];
    assert_eq!(said(&render(chatml, &called).unwrap()), ["<call>add<|im_end|>", "<|im_end|><|im_end|>"]);

    let vicuna = "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}";
    assert_eq!(said(&render(vicuna, &dialogue()).unwrap()), ["  four </s>", " six</s>"]);

    let forgetful = "{% for m in messages %}<{{ m.role }}>{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}\
        {{ m.content }}<end>{% endfor %}";
    let twice = [dialogue(), dialogue()[3..].to_vec()].concat();
    assert_eq!(said(&render(forgetful, &twice).unwrap()), [" four <end>", "six<end>", "<think></think>six<end>"]);
}

#[test]
fn a_question_that_ends_in_the_header_is_followed_by_the_answer() {
    let instructed = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content.strip() }} </s>{% endif %}{% endfor %}";
    assert_eq!(said(&render(instructed, &dialogue()).unwrap()), [" four </s>", " six </s>"]);
}

#[test]
fn what_only_the_last_of_several_answers_in_a_row_begins_with_is_part_of_it() {
    let messages = [
        json!({"role": "user", "content": "2+2?"}),
        json!({"role": "assistant", "content": "one"}),
        json!({"role": "assistant", "content": "two"}),
    ];
    assert_eq!(said(&render(FORGETFUL, &messages).unwrap()), ["one<|im_end|>", "<think>\n\n</think>\ntwo<|im_end|>"]);

    // The prompt begins what earlier answers lack.
    let thinking = FORGETFUL.replace("assistant\\n' }}{%- endif %}", "assistant\\n<think>\\n' }}{%- endif %}");
    assert_eq!(said(&render(&thinking, &messages).unwrap()), ["one<|im_end|>", "\n</think>\ntwo<|im_end|>"]);
}

#[test]
fn the_last_answer_alone_is_found_where_earlier_ones_are_not_written() {
    let last = "{% for m in messages[-2:] %}{{ '<' ~ m.role ~ '>' ~ m.content }}{% endfor %}{{ '<assistant>' if add_generation_prompt }}";
    let rendered = render(last, &dialogue()).unwrap();
    assert_eq!((said(&rendered), rendered.found_by), (vec!["six"], FoundBy::LastAnswer));
}

#[test]
fn answers_that_are_nowhere_are_an_error_of_the_row() {
    assert!(refusal("{{ messages | length }}").contains("no `generation` marks"));
    let asked = [json!({"role": "user", "content": "?"})];
    assert_eq!(render("{{ messages | length }}", &asked).unwrap().answers, []);
}

#[test]
fn marks_are_found_in_macros_where_the_text_is_used_as_it_is_and_compared_where_not() {
    let macros = "{% macro say(m) %}<{{ m.role }}>{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}\
        {% for m in messages %}{% if m.role == 'assistant' %}{{ say(m) FILTER }}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let rendered = render(&macros.replace("FILTER", ""), &dialogue()).unwrap();
    assert_eq!((said(&rendered), rendered.found_by), (vec![" four ", "six"], FoundBy::Marks));
    let trimmed = render(&macros.replace("FILTER", "| trim"), &dialogue()).unwrap();
    assert_eq!(trimmed.text, "2+2?<assistant> four3+3?<assistant>six");
    assert_ne!(trimmed.found_by, FoundBy::Marks);
}

#[test]
fn marks_are_told_apart_from_the_same_characters_in_a_row() {
    let marked = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}";
    let messages = [json!({"role": "assistant", "content": "\u{fdd0}a\u{fdd1}\u{fdd1}"})];
    let rendered = render(marked, &messages).unwrap();
    assert_eq!(said(&rendered), ["\u{fdd0}a\u{fdd1}\u{fdd1}"]);
}

#[test]
fn each_mark_belongs_to_the_message_that_it_holds() {
    let marked = "{% for m in messages if m.content != ' four ' %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";
    let messages: Vec<Option<usize>> =
        render(marked, &dialogue()).unwrap().answers.iter().map(|answer| answer.message).collect();
    assert_eq!(messages, [None, None, Some(3)]);
}

#[test]
fn a_mark_that_holds_what_several_messages_say_belongs_to_none() {
    let marked = "{% for m in messages[-2:] %}{% generation %}{{ m.content }}<end>{% endgeneration %}{% endfor %}";
    let messages = ["it", "is it", "x"].map(|content| json!({"role": "assistant", "content": content}));
    let rendered = render(marked, &messages).unwrap();
    assert_eq!(rendered.answers.iter().map(|answer| answer.message).collect::<Vec<_>>(), [None, Some(2)]);
}

#[test]
fn a_templates_own_refusal_is_the_message() {
    assert_eq!(
        refusal("{{ raise_exception('System role not supported') }}"),
        "the chat template says: System role not supported"
    );
}

#[test]
fn errors_name_the_file_and_the_line() {
    let said = refusal("a\n{# b\n#}\n{{ messages[0].content + 1 }}");
    let reason = "chat_template.jinja: chat template, line 4: unsupported operand types for +: 'str' and 'int'";
    assert!(said.ends_with(reason), "{said}");
    let error = open(folder("a\n\n{% if %}").path()).err().unwrap().to_string();
    assert!(error.contains("chat_template.jinja: chat template, line 3: "), "{error}");
}

#[test]
fn what_never_ends_or_grows_without_end_is_an_error() {
    let template = |body: &str| format!("{{% set ns = namespace(a='xxxxxxxxxxxxxxxx', l=[1]) %}}{body}");
    for body in [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a }}",
        "{% for i in range(40) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.a = ns.a | replace('x', 'xx') %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] | join %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.a = ns.a.join([ns.a, ns.a]) %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.a %}{{ ns.a }}{{ ns.a }}{% endset %}{% endfor %}",
        "{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        "{% for i in range(60000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60000) %}{% set ns.l = {'a': ns.l} %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60000) %}{% set ns.l = (ns.l,) %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60000) %}{% set ns.l = ns.l | batch(1) %}{% endfor %}{{ ns.l | list }}",
        "{% for i in range(60000) %}{% set ns.l = {'a': ns.l}.items() %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60000) %}{% set ns.l = namespace(a=ns.l) %}{% endfor %}{{ ns.l.a }}",
        "{% for i in range(60000) %}{% set ns.l = dict(a=ns.l) %}{% endfor %}{{ ns.l }}",
        "{% set ns.ns = ns %}{{ [ns] }}",
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ 'a\\nb' | indent(100000000000) }}",
        "{{ 'a\\nb' * 100000 | indent(100000) }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ [1] * 10 ** 10 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ 'x' | center(10 ** 10) }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ '\\t'.expandtabs(10 ** 10) }}",
        "{{ '%99999999d' | format(1) }}",
        "{{ '%.99999999f' % 1.5 }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ [1] | batch(10 ** 10, 0) | list }}",
        "{{ [1] | slice(10 ** 10) | list }}",
        "{{ [1, 2] | tojson(indent=10 ** 9) }}",
        "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
        "{{ ('x' * 100000) | list | join('y' * 100000) }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 1 << 2 }}",
        "{% set s = 'a' * 10000000 %}{% for i in range(1000) %}{% set t = s.split('a') %}{% endfor %}",
        "{% set t = ('a' * 60000000).split('a') %}",
        "{% set t = ('\\n' * 60000000).splitlines() %}",
        "{% set t = (' a' * 30000000).split() %}",
        "{% set t = ('a' * 60000000) | list %}",
        "{% set s = 'é' * 9000000 %}{% for i in range(99999) %}{% if s[8999999] %}{% endif %}{% endfor %}",
        "{% set s = 'é' * 9000000 %}{% for i in range(99999) %}{% if s | length %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 9000000 %}{% set t = s + '' %}{% for i in range(99999) %}{% if s == t %}{% endif %}{% endfor %}",
        "{% set s = range(100000) | list %}{% for i in range(100000) %}{{ s | sort | length }}{% endfor %}",
        "{% set s = range(100000) | list %}{{ s | unique | list }}{{ s | unique | list }}",
        "{% set s = range(100000) | list %}{% for i in range(100000) %}{% if -1 in s %}{% endif %}{% endfor %}",
    ] {
        let began = std::time::Instant::now();
        let error = render(&template(body), &dialogue()).map(|rendered| rendered.text.len());
        assert!(error.is_err(), "{body}: {error:?}");
        assert!(began.elapsed().as_secs() < 20, "{body}: {:?}", began.elapsed());
    }
}

#[test]
fn a_mark_around_nothing_is_no_answer() {
    let template =
        "{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";
    let messages = [json!({"role": "assistant", "content": ""}), json!({"role": "assistant", "content": "yes"})];
    assert_eq!(said(&render(template, &messages).unwrap()), ["yes"]);
}

#[test]
fn a_long_conversation_ends_in_time() {
    let turn = |i: usize| json!({"role": if i.is_multiple_of(2) { "user" } else { "assistant" }, "content": "word ".repeat(200)});
    let messages: Vec<Json> = (0..3000).map(turn).collect();
    let rendered = render(CHATML, &messages).unwrap();
    assert_eq!(rendered.found_by, FoundBy::LastAnswer);
}

#[test]
fn tools_as_a_text_are_refused() {
    let template = compiled("{{ tools }}");
    let tools = Json::String("[]".into());
    let error = template.render(&Conversation { tools: Some(&tools), ..Conversation::default() }).unwrap_err();
    assert_eq!(error.to_string(), "`tools` is a text; it must be a list of objects");
}

/// The text of a prompt by the templates of a folder.
fn prompt(folder: &Path, name: Option<&str>, tools: Option<&Json>) -> Result<String, TemplateError> {
    let settings = TemplateSettings { name: name.map(str::to_owned), ..TemplateSettings::default() };
    let messages = dialogue();
    let conversation = Conversation { messages: &messages, tools, ..Conversation::default() };
    ChatTemplate::open(folder, &[], &settings)?.render_prompt(&conversation, true)
}

#[test]
fn of_several_templates_the_one_that_transformers_takes_is_rendered() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let tools = json!([]);
    assert!(matches!(prompt(folder.path(), None, None), Err(TemplateError::NoTemplate { .. })));

    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "default", "template": "old"}, {"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#,
    );
    assert_eq!(prompt(folder.path(), None, Some(&tools)).unwrap(), "d");
    assert_eq!(prompt(folder.path(), Some("rag"), None).unwrap(), "r");
    let error = prompt(folder.path(), Some("x"), None).unwrap_err().to_string();
    assert!(error.ends_with("no chat template is named `x`; there is `default`, `rag`"), "{error}");

    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/tool_use.jinja", "t");
    assert_eq!(prompt(folder.path(), None, Some(&tools)).unwrap(), "t");
    assert!(matches!(prompt(folder.path(), None, None), Err(TemplateError::NoDefault { .. })));
    write("chat_template.jinja", "file\n");
    assert_eq!(prompt(folder.path(), None, None).unwrap(), "file");
    assert_eq!(prompt(folder.path(), None, Some(&tools)).unwrap(), "t");

    write("chat_template.jinja", "{% if %}");
    assert!(matches!(prompt(folder.path(), None, None), Err(TemplateError::Compile { .. })));
}

#[test]
fn whether_a_template_takes_text_parts_and_asks_for_the_date_is_known() {
    assert!(!compiled(CHATML).takes_content_parts());
    assert!(!compiled("{% for m in messages %}{{ m.content }}{% endfor %}").takes_content_parts());
    let both = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}";
    assert!(compiled(both).takes_content_parts());

    let asking = compiled("{% if messages | length > 1 %}{{ strftime_now('%Y') }}{% endif %}");
    let messages = dialogue();
    asking.render_prompt(&Conversation { messages: &messages[..1], ..Conversation::default() }, false).unwrap();
    assert!(!asking.asks_for_date());
    asking.render_prompt(&Conversation { messages: &messages, ..Conversation::default() }, false).unwrap();
    assert!(asking.asks_for_date());
}

#[test]
fn loops_and_groups_print_as_in_python() {
    let rendered = |template: &str| render(template, &dialogue()).unwrap().text;
    assert_eq!(
        rendered("{% for x in 'ab' %}{{ loop }}{{ [loop] }}{% endfor %}")[..32],
        *"<LoopContext 1/2>[<LoopContext 1"
    );
    assert_eq!(rendered("{{ [{'a': 1}] | groupby('a') | list }}"), "[(1, [{'a': 1}])]");
    assert_eq!(rendered("{{ ([{'a': 1}] | groupby('a') | list)[0] == (1, [{'a': 1}]) }}"), "True");
    assert_eq!(rendered("{% for x in [1] %}{{ loop is mapping }}{{ loop | attr('index') }}{% endfor %}"), "False1");
}

#[test]
fn functions_that_are_not_known_are_named_whatever_their_arguments() {
    for (call, name) in [("joiner(',')", "joiner"), ("cycler('a', 'b')", "cycler"), ("lipsum(n=1)", "lipsum")] {
        let said = refusal(&format!("{{{{ {call} }}}}"));
        assert!(said.ends_with(&format!("`{name}` is not known here")), "{said}");
    }
}

#[test]
fn a_loop_that_cycles_through_nothing_is_an_error() {
    assert!(refusal("{% for x in [1] %}{{ loop.cycle() }}{% endfor %}").ends_with("no items for cycling given"));
}

#[test]
fn a_format_of_dates_that_is_very_long_is_refused() {
    let said = refusal("{{ strftime_now('%Y' * 10000000) }}");
    assert!(said.ends_with("does more work than a template may do for one row"), "{said}");
    let said = refusal("{{ strftime_now('%Y' * 4000) }}");
    assert!(said.ends_with("strftime_now does not take a format of more than 4096 bytes"), "{said}");
}
