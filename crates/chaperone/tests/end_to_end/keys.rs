//! A rotation drill: keys are renewed by commands beside a server that goes on serving, and no payload changes.

use std::collections::BTreeMap;

use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::ids::TenantId;
use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter};
use crate::ehr;
use crate::installation::{Installation, Settings, printed};

/// Every sealed payload that the ledger leads to, by its address.
async fn payloads(installation: &Installation) -> BTreeMap<String, (String, Vec<u8>)> {
    let url = format!(
        "sqlite:{}",
        installation.home().join("chaperone.db").display()
    );
    let store = chaperone_store::open(&url, Default::default())
        .await
        .unwrap();
    let tenant = TenantId::new("clinic").unwrap();
    let mut found = BTreeMap::new();
    for leaf in store.leaves(&tenant, 0, 1_000).await.unwrap() {
        let leaf = String::from_utf8(leaf).unwrap();
        for text in leaf.split('"') {
            let Ok(digest) = text.parse::<Digest>() else {
                continue;
            };
            let address = PayloadAddress::from_digest(digest);
            if let Some(stored) = store.payload(&tenant, &address).await.unwrap() {
                found.insert(text.to_owned(), (stored.key, stored.sealed));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_beside_a_server_and_no_payload_is_touched() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let mrns = [1, 2, 3, 4].map(|n| ehr::add_patient(&sandbox, n));
    let mut settings = Settings::new("sqlite:chaperone.db", &sandbox.base_url, "full");
    settings.log_level = "debug";
    let installation = Installation::new(&settings);
    let server = installation.start().await;
    let scheduler = agent(&installation, SCHEDULER);
    let dispatcher = Dispatcher::sign_in(&installation).await;
    let work = async |mrn: &str| {
        let token = enter(&scheduler, &dispatcher, mrn).await.unwrap();
        let answer = call(&scheduler, &token, "get_patient_context", &json!({}), None)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    work(&mrns[0]).await;
    let before = payloads(&installation).await;

    // The tenant key, beside the server.
    let said = printed(&installation.run(&["keys", "rotate"]));
    assert!(said.contains("under version 2 of the tenant key"), "{said}");
    assert!(said.contains("must be gone by"), "{said}");
    work(&mrns[0]).await;
    work(&mrns[1]).await;
    // The master: first its escrow text, then the change.
    let shown = printed(&installation.run(&["keys", "rotate", "--master"]));
    assert!(shown.contains("chaperone-escrow-1 clinic "), "{shown}");
    let waits = printed(&installation.run(&["keys", "status"]));
    assert!(waits.contains("is not finished"), "{waits}");
    work(&mrns[2]).await;
    let again = printed(&installation.run(&["keys", "rotate", "--master"]));
    let text = |said: &str| {
        said.lines()
            .find(|it| it.starts_with("chaperone-escrow-1"))
            .map(str::to_owned)
    };
    assert_eq!(text(&again), text(&shown));
    let done = printed(&installation.run(&["keys", "rotate", "--master", "--escrow-stored"]));
    assert!(!done.contains("chaperone-escrow-1"), "{done}");
    work(&mrns[3]).await;
    assert!(server.stop().await.success());

    // And a node that starts anew.
    let server = installation.start().await;
    work(&mrns[0]).await;
    assert!(server.stop().await.success());
    let after = payloads(&installation).await;
    for (address, sealed) in &before {
        assert_eq!(after.get(address), Some(sealed));
    }

    let status = installation.run(&["keys", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        status["tenant_key"].as_array().unwrap().len(),
        1,
        "{status}"
    );
    assert_eq!(status["tenant_key"][0]["version"], 2);
    assert_eq!(status["retired"].as_array().unwrap().len(), 2, "{status}");
    assert!(status["retired"][0]["backups_gone_by"].is_string());

    // The ledger says all of it, verifies, and neither it nor the log holds what was shown.
    let export = installation.file("ledger.export");
    printed(&installation.run(&["ledger", "export", export.to_str().unwrap()]));
    let ledger = std::fs::read_to_string(&export).unwrap();
    for what in [
        "rotation_started",
        "rotation_finished",
        "master_change_started",
        "escrow_shown",
        "master_changed",
        "index/tokens",
    ] {
        assert!(ledger.contains(what), "{what}");
    }
    let escrow = text(&shown).unwrap();
    let digits = escrow.split_whitespace().nth(2).unwrap();
    let group = &digits[..9];
    let log = std::fs::read_to_string(installation.log()).unwrap();
    for place in [&ledger, &log] {
        assert!(!place.contains(group));
    }
    let key = printed(&installation.run(&["ledger", "key"]));
    let verified = crate::installation::chaperone(&[
        "ledger",
        "verify",
        export.to_str().unwrap(),
        "--key",
        key.trim(),
    ]);
    printed(&verified);
    let doctor = installation.run(&["doctor", "--json"]);
    let looks: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert!(!looks.to_string().contains("overdue"), "{looks}");
    sandbox.stop().await;
}
