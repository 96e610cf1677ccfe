use super::*;

const EXAMPLE: &str = r#"
intent = "aggregate"

[interface.wwan0]
use = "standby"

[interface.docker0]
use = "never"

[[rule]]
program = ["ssh", "mosh-client"]
intent = "interactive"
join = "after-bytes:5000"

[[rule]]
destination = ["192.0.2.0/24", "2001:db8::1"]
port = [443, 8443]
multipath = false

[[rule]]
program = "ssh"
fate = true
"#;

fn settings(config: &Config, program: &str, remote: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let remote = remote.parse().ok();
    config.apply(&Subject { program, remote }, &mut settings);
    settings
}

fn value(config: &Config, program: &str, remote: &str, name: &str) -> Option<String> {
    let all = settings(config, program, remote);
    all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn later_rules_overrule_earlier_ones_key_by_key() {
    let config = Config::parse(EXAMPLE).unwrap();
    let of = |program: &str, remote: &str, name: &str| value(&config, program, remote, name);
    assert_eq!(
        of("curl", "203.0.113.1:80", "MPTCP_INTENT").as_deref(),
        Some("aggregate")
    );
    assert_eq!(
        of("ssh", "203.0.113.1:22", "MPTCP_INTENT").as_deref(),
        Some("interactive")
    );
    assert_eq!(
        of("ssh", "203.0.113.1:22", "MPTCP_JOIN").as_deref(),
        Some("after-bytes:5000")
    );
    assert_eq!(of("ssh", "203.0.113.1:22", "MPTCP_FATE").as_deref(), Some("on"));
    assert_eq!(of("mosh-client", "203.0.113.1:22", "MPTCP_FATE"), None);
    let paths = of("curl", "203.0.113.1:80", "MPTCP_PATHS");
    let mut words: Vec<&str> = paths.as_deref().unwrap().split(',').collect();
    words.sort_unstable();
    assert_eq!(words, ["-docker0", "wwan0:standby"]);
}

#[test]
fn destinations_are_networks_addresses_and_ports() {
    let config = Config::parse(EXAMPLE).unwrap();
    for (remote, off) in [
        ("192.0.2.77:443", true),
        ("[::ffff:192.0.2.77]:443", true),
        ("192.0.3.77:443", false),
        ("192.0.2.77:80", false),
        ("[2001:db8::1]:8443", true),
        ("[2001:db8::2]:8443", false),
    ] {
        let said = value(&config, "curl", remote, "MPTCP");
        assert_eq!(said.as_deref() == Some("off"), off, "{remote}");
    }
    let mut settings = Vec::new();
    let listener = Subject {
        program: "ssh",
        remote: None,
    };
    config.apply(&listener, &mut settings);
    assert!(settings.iter().any(|(name, _)| name == "MPTCP_FATE"));
    assert!(
        settings.iter().all(|(name, _)| name != "MPTCP"),
        "a rule for destinations"
    );
}

#[test]
fn one_file_overrules_another() {
    let system = Config::parse("intent = \"aggregate\"\nfate = true\n[interface.a0]\nuse = \"never\"").unwrap();
    let user = Config::parse("intent = \"handover\"\n[interface.b0]\nuse = \"standby\"").unwrap();
    let mut settings = Vec::new();
    let subject = Subject {
        program: "curl",
        remote: None,
    };
    system.apply(&subject, &mut settings);
    user.apply(&subject, &mut settings);
    let expected = [
        ("MPTCP_FATE", "on"),
        ("MPTCP_INTENT", "handover"),
        ("MPTCP_PATHS", "-a0,b0:standby"),
    ];
    settings.sort();
    assert_eq!(
        settings,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn errors_name_line_and_key() {
    for (text, line, key, why) in [
        ("intent = \"fast\"", 1, "intent", "\"fast\" is neither of"),
        ("\nfate = \"yes\"", 2, "fate", "true or false"),
        ("a = 1", 1, "a", "no such key; there are multipath"),
        ("x = [", 1, "", ""),
        ("paths = \"eth0,,\"", 1, "paths", "missing between the commas"),
        ("join = \"later\"", 1, "join", "at-once"),
        ("join = \"\"", 1, "join", "at-once"),
        ("heuristics = \"-buffers\"", 1, "heuristics", "for the variable only"),
        ("[rule]\nprogram = \"a\"", 1, "rule", "double brackets"),
        ("[[rule]]\nintent = \"handover\"", 1, "rule", "no condition"),
        ("[[rule]]\nprogram = \"a\"", 1, "rule", "sets nothing"),
        (
            "[[rule]]\nprogram = \"/bin/a\"\nfate = true",
            2,
            "rule.program",
            "without directory",
        ),
        ("[[rule]]\nprogram = []\nfate = true", 2, "rule.program", "empty list"),
        (
            "[[rule]]\ndestination = \"example.org\"\nfate = true",
            2,
            "rule.destination",
            "neither an address",
        ),
        (
            "[[rule]]\ndestination = \"192.0.2.0/33\"\nfate = true",
            2,
            "rule.destination",
            "neither an address",
        ),
        (
            "[[rule]]\nport = [\n80,\n65536]\nfate = true",
            4,
            "rule.port",
            "1 to 65535",
        ),
        ("[[rule]]\nport = 80\n\nfate = 3", 4, "rule.fate", "true or false"),
        ("[interface.w0]\nuse = \"always\"", 2, "interface.w0.use", "standby"),
        ("[interface.w0]\nmtu = 3", 2, "interface.w0.mtu", "there is use"),
        (
            "[interface.\"a b\"]\nuse = \"never\"",
            1,
            "interface.a b",
            "not an interface name",
        ),
        ("interface = 3", 1, "interface", "[interface.NAME]"),
    ] {
        let problems = Config::parse(text).expect_err(text);
        let problem = &problems[0];
        assert_eq!((problem.line, problem.key.as_str()), (line, key), "{text}: {problem}");
        assert!(problem.why.contains(why), "{text}: {problem}");
    }
}

#[test]
fn every_error_is_told() {
    let problems = Config::parse("fate = 1\nintent = 2\n[[rule]]\nport = 0\nlisten = 5").unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 2, 4, 5]);
}

#[test]
fn an_explanation_has_a_line_for_each_thing() {
    let lines = Config::parse(EXAMPLE).unwrap().explain();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines.contains(&"interface docker0: never used".to_owned()));
    assert!(
        lines.contains(&"programs ssh, mosh-client: MPTCP_INTENT=interactive, MPTCP_JOIN=after-bytes:5000".to_owned())
            || lines.contains(
                &"programs ssh, mosh-client: MPTCP_JOIN=after-bytes:5000, MPTCP_INTENT=interactive".to_owned()
            )
    );
    assert_eq!(Config::parse("").unwrap().explain(), Vec::<String>::new());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Config::parse(&text);
    }

    #[test]
    fn any_values_are_read_or_refused(value in "(\"[a-z:,-]{0,12}\"|[0-9-]{1,6}|true|\\[\\]|\\{\\})") {
        for key in super::keys::KEYS {
            let _ = Config::parse(&format!("{} = {value}\n[[rule]]\nprogram = {value}\nport = {value}\n", key.name));
        }
    }
}
