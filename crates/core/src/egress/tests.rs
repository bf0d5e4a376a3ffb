//! Where bytes may go, case by case: each permitted address beside its nearest neighbours.

use super::*;

fn to(text: &str) -> Destination {
    let (scheme, rest) = text.split_once("://").unwrap();
    let (host, port) = rest.rsplit_once(':').unwrap();
    Destination {
        scheme: Scheme::parse(scheme).unwrap(),
        host: Host::parse(host).unwrap(),
        port: port.parse().unwrap(),
    }
}

fn now() -> Timestamp {
    "2027-01-01T12:00:00Z".parse().unwrap()
}

fn vendor(id: &str, hosts: &[&str]) -> VendorDeclaration {
    VendorDeclaration {
        id: VendorId::new(id).unwrap(),
        legal_name: "Example Ltd".to_owned(),
        relation: Relation::BusinessAssociate,
        channels: vec![Channel::AuditStream],
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        internal: false,
        data_classes: vec![DataClass::Operational, DataClass::Phi],
        baa: Some("BAA-7".to_owned()),
        baa_expires: Some("2027-01-01T12:00:01Z".parse().unwrap()),
        breach_notice_hours: Some(24),
        training_banned: true,
        security: "assessed".to_owned(),
        region: Region::new("us-east-1").unwrap(),
        owner: "privacy officer".to_owned(),
        reviewed: "2026-01-01".parse().unwrap(),
        review_by: "2027-01-01".parse().unwrap(),
        request_bytes_max: 1_000,
        requests_per_minute_max: 10,
        resolves_tokens: false,
    }
}

fn table(vendors: Vec<VendorDeclaration>) -> VendorTable {
    VendorTable {
        regions: vec![Region::new("us-east-1").unwrap()],
        vendors,
        ..VendorTable::nobody()
    }
}

#[track_caller]
fn rule(
    table: &VendorTable,
    channel: Channel,
    class: DataClass,
    address: &str,
) -> Option<EgressRule> {
    table
        .judge(channel, class, &to(address), now())
        .err()
        .map(|refused| refused.rule)
}

#[test]
fn a_pattern_has_its_own_addresses_and_no_neighbour() {
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            "https://api.example.org",
            &["https://api.example.org:443"],
            &[
                "https://api.example.org:8443",
                "http://api.example.org:443",
                "https://example.org:443",
                "https://xapi.example.org:443",
                "https://api.example.org.evil.example:443",
                "smtps://api.example.org:443",
            ],
        ),
        (
            "https://*.example.org:8443",
            &["https://a.example.org:8443", "https://x-1.example.org:8443"],
            &[
                "https://example.org:8443",
                "https://a.b.example.org:8443",
                "https://aexample.org:8443",
                "https://a.example.org:443",
            ],
        ),
        (
            "http://127.0.0.1:*",
            &["http://127.0.0.1:1", "http://127.0.0.1:65535"],
            &[
                "http://127.0.0.2:1",
                "http://localhost:1",
                "http://[::1]:1",
                "https://127.0.0.1:1",
            ],
        ),
        (
            "http://[::1]:80",
            &["http://[::1]:80"],
            &["http://[::2]:80", "http://[::ffff:127.0.0.1]:80"],
        ),
        (
            "smtp://mail.example.org",
            &["smtp://mail.example.org:587"],
            &["smtp://mail.example.org:25"],
        ),
    ];
    for (pattern, within, beyond) in cases {
        let read: HostPattern = pattern.parse().unwrap();
        assert_eq!(read.to_string().parse(), Ok(read.clone()), "{pattern}");
        for address in within {
            assert!(read.has(&to(address)), "{pattern} {address}");
        }
        for address in beyond {
            assert!(!read.has(&to(address)), "{pattern} {address}");
        }
    }
}

#[test]
fn what_is_no_pattern_is_not_read_as_one() {
    for (text, why) in [
        ("api.example.org", PatternInvalid::Form),
        ("ftp://api.example.org", PatternInvalid::Form),
        ("https://API.example.org", PatternInvalid::Form),
        ("https://api.example.org.", PatternInvalid::Form),
        ("https://user@api.example.org", PatternInvalid::Form),
        ("https://api.example.org/path", PatternInvalid::Form),
        ("https://api.example.org:0443", PatternInvalid::Form),
        ("https://api.example.org:+443", PatternInvalid::Form),
        ("https://api.example.org:65536", PatternInvalid::Form),
        ("https://api.example.org:", PatternInvalid::Form),
        ("https://*.org", PatternInvalid::Form),
        ("https://*", PatternInvalid::Form),
        ("https://a.*.example.org", PatternInvalid::Form),
        ("https://*example.org", PatternInvalid::Form),
        ("https://2130706433", PatternInvalid::Form),
        ("https://0x7f000001", PatternInvalid::Form),
        ("https://127.1", PatternInvalid::Form),
        ("https://::1", PatternInvalid::Form),
        ("https://[127.0.0.1]", PatternInvalid::Form),
        ("https://exämple.org", PatternInvalid::Form),
        ("http://api.example.org", PatternInvalid::InTheClear),
        ("https://api.example.org:*", PatternInvalid::AnyPort),
        ("https://*.example.org:*", PatternInvalid::AnyPort),
    ] {
        assert_eq!(text.parse::<HostPattern>(), Err(why), "{text}");
    }
}

#[test]
fn each_rule_has_a_case_and_its_neighbour_passes() {
    use EgressRule as R;
    const HERE: &str = "https://api.example.org:443";
    let good = || vendor("good", &["https://api.example.org"]);
    let check = |change: &dyn Fn(&mut VendorDeclaration), class, expected: Option<R>| {
        let mut changed = good();
        change(&mut changed);
        let found = rule(&table(vec![changed]), Channel::AuditStream, class, HERE);
        assert_eq!(found, expected);
    };
    // The last second of the agreement, and the last day before the assessment is overdue.
    check(&|_| {}, DataClass::Phi, None);
    let ended = |v: &mut VendorDeclaration| v.baa_expires = Some(now());
    check(&ended, DataClass::Phi, Some(R::AgreementExpired));
    // Past its agreement it is as if it were not there, for any class.
    check(&ended, DataClass::Operational, Some(R::AgreementExpired));
    let overdue = |v: &mut VendorDeclaration| v.review_by = "2026-12-31".parse().unwrap();
    check(&overdue, DataClass::Operational, Some(R::ReviewOverdue));
    check(&|_| {}, DataClass::None, Some(R::DataClassNotAllowed));
    check(
        &|_| {},
        DataClass::DeIdentified,
        Some(R::DataClassNotAllowed),
    );
    // Listed for PHI, and bound by nothing.
    let unbound = |v: &mut VendorDeclaration| v.baa = None;
    check(&unbound, DataClass::Phi, Some(R::DataClassNotAllowed));
    check(&unbound, DataClass::Operational, None);
    let other = |v: &mut VendorDeclaration| v.relation = Relation::Other;
    check(&other, DataClass::Phi, Some(R::DataClassNotAllowed));
    check(&other, DataClass::Operational, None);
    let abroad = |v: &mut VendorDeclaration| v.region = Region::new("eu-west-1").unwrap();
    check(&abroad, DataClass::Phi, Some(R::RegionNotPinned));
    check(&abroad, DataClass::Operational, None);

    let table = table(vec![good()]);
    let unknown = rule(
        &table,
        Channel::AuditStream,
        DataClass::Phi,
        "https://other.example.org:443",
    );
    assert_eq!(unknown, Some(R::DestinationUnknown));
    let misused = rule(&table, Channel::Model, DataClass::Phi, HERE);
    assert_eq!(misused, Some(R::ChannelNotDeclared));
}

#[test]
fn one_address_may_serve_two_vendors_by_channel() {
    let mut model = vendor("model", &["https://api.example.org"]);
    model.channels = vec![Channel::Model];
    let table = table(vec![vendor("audit", &["https://api.example.org"]), model]);
    let found = |channel| {
        let here = to("https://api.example.org:443");
        let vendor = table.judge(channel, DataClass::Phi, &here, now()).unwrap();
        vendor.id.to_string()
    };
    assert_eq!(found(Channel::AuditStream), "audit");
    assert_eq!(found(Channel::Model), "model");
}

#[test]
fn a_refusal_says_the_rule_and_what_to_do() {
    let refused = EgressRefusal {
        channel: Channel::Mail,
        class: DataClass::Operational,
        vendor: Some(VendorId::new("post").unwrap()),
        rule: EgressRule::ReviewOverdue,
    };
    assert_eq!(
        refused.to_string(),
        "refused by the rule `review-overdue` (mail, operational, vendor `post`): assess the vendor's risks again \
         and enter the days in rules/vendors.toml"
    );
    for rule in EgressRule::ALL {
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
    }
    for channel in Channel::ALL {
        assert_eq!(serde_json::to_value(channel).unwrap(), channel.as_str());
    }
    for class in DataClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}
