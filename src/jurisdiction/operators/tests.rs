use super::*;
use std::collections::HashSet;

fn file(more: &str) -> String {
    format!(
        "[[operator]]\nid = \"a\"\nname = \"A\"\nseat = \"CN\"\nsource = \"s\"\nas_of = \"2026-01-01\"\n{more}"
    )
}

fn refusal(more: &str) -> String {
    Operators::read(&[&file(more)]).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_claims_nothing_twice_and_rests_on_something() {
    let operators = Operators::embedded().unwrap();
    assert!(operators.len() >= 60);
    let (mut asns, mut domains, mut prefixes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (id, operator) in operators.iter() {
        for asn in &operator.asns {
            assert!(asns.insert(*asn), "AS{asn} stands twice");
        }
        for domain in &operator.domains {
            assert!(domains.insert(domain.clone()), "{domain} stands twice");
            assert_eq!(operators.by_name(&format!("www.{domain}")), Some(id));
        }
        for prefix in operator.prefixes.iter().chain(&operator.anycast) {
            assert!(prefixes.insert(*prefix), "{prefix} stands twice");
            assert_eq!(prefix.trunc(), *prefix, "{prefix} has host bits");
        }
        assert!(!operator.source.is_empty(), "{}", operator.id);
        let tells = operator.asns.len() + operator.domains.len() + operator.prefixes.len();
        assert!(tells > 0, "{} cannot be recognised", operator.id);
    }
    let agora = operators.get(operators.by_id("agora").unwrap()).unwrap();
    assert_eq!(
        (agora.seat.to_string().as_str(), agora.asns.as_slice()),
        ("CN", &[140_899][..])
    );
    for name in [
        "edge.agora.io",
        "a.agoraio.cn",
        "agoralab.co",
        "x.sd-rtn.com",
    ] {
        assert_eq!(operators.by_name(name), operators.by_id("agora"), "{name}");
    }
    assert_eq!(operators.by_name("notagora.io"), None);
    assert_eq!(operators.by_name(""), None);
}

#[test]
fn a_subsidiary_belongs_to_its_parents() {
    let operators = Operators::embedded().unwrap();
    let [github, microsoft, google] =
        ["github", "microsoft", "google"].map(|id| operators.by_id(id).unwrap());
    assert!(operators.belongs_to(github, microsoft) && operators.belongs_to(github, github));
    assert!(!operators.belongs_to(microsoft, github) && !operators.belongs_to(github, google));
}

#[test]
fn a_users_file_adds_and_replaces() {
    let own = "[[operator]]\nid = \"agora\"\nname = \"Mine\"\nseat = \"US\"\nasn = [64500, 13335]\n\
               domain = [\".agora.io\"]\nsource = \"me\"\nas_of = \"2026-01-01\"\n";
    let operators = Operators::with(&[own]).unwrap();
    let agora = operators.by_id("agora").unwrap();
    assert_eq!(operators.get(agora).unwrap().name, "Mine");
    assert_eq!(
        operators.by_asn(13_335),
        Some(agora),
        "the later file wins the number"
    );
    assert_eq!(operators.by_asn(140_899), None, "the older entry is gone");
    assert_eq!(operators.by_name("www.agora.io"), Some(agora));
}

#[test]
fn mistakes_are_told_with_their_place() {
    assert!(
        refusal("asn = [1]\nasns = [2]\n").contains("line 8"),
        "{}",
        refusal("asns = [2]\n")
    );
    assert!(refusal("domain = [\"Agora.io\"]\n").contains("Agora.io"));
    assert!(refusal("domain = [\"\"]\n").contains("no domain"));
    assert!(refusal("parent = \"b\"\n").contains("“b”, which is not there"));
    assert!(refusal("parent = \"a\"\n").contains("its own ancestor"));
    assert!(refusal("prefix = [\"1.2.3.0/33\"]\n").contains("line 7"));
    assert!(refusal(&file("")).contains("operator “a” stands twice"));
    let other = file("asn = [7]\n").replace("\"a\"", "\"b\"");
    assert!(refusal(&format!("asn = [7]\n{other}")).contains("AS7 stands twice"));
    assert!(
        Operators::read(&[&file("").replace("CN", "UK")])
            .unwrap_err()
            .to_string()
            .contains("write GB")
    );
    assert!(Operators::read(&[&file("").replace("2026-01-01", "x")]).is_err());
    assert!(Operators::read(&[&file("").replace("\"a\"", "\"A B\"")]).is_err());
}
