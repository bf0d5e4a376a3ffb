//! A named-entity model behind the scrubber's port, played by a double: what it finds is replaced, and a text that
//! it fails on, or answers late, is withheld.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chaperone_engine::entities::{Entities, FINDER_MS_MAX};
use chaperone_engine::{Engine, EngineConfig};
use chaperone_phi::scrub::{Class, Entity, EntityFinder, FinderFailed};
use chaperone_testkit::{MemoryKeyVault, SeededClock, SeededRandom};
use serde_json::{Value, json};

use crate::bench::*;
use crate::free_text::{document, filled, summariser, text_of};

/// What no list knows and no record names.
const STRANGER: &str = "the lighthouse keeper";

#[derive(Debug, Clone, Copy)]
enum Mood {
    Finds,
    Fails,
    TakesMs(i64),
    LiesAboutPlaces,
}

struct Double {
    mood: Mood,
    clock: Arc<SeededClock>,
    asked: Arc<AtomicUsize>,
}

impl EntityFinder for Double {
    fn find(&self, text: &str) -> Result<Vec<Entity>, FinderFailed> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = text.match_indices(STRANGER).map(|(start, it)| Entity {
            start,
            end: start + it.len(),
            class: Class::Name,
        });
        match self.mood {
            Mood::Finds => Ok(found.collect()),
            Mood::Fails => Err(FinderFailed),
            Mood::TakesMs(ms) => {
                self.clock.advance_ms(ms);
                Ok(found.collect())
            }
            Mood::LiesAboutPlaces => Ok(vec![Entity {
                start: 0,
                end: text.len() + 1,
                class: Class::Name,
            }]),
        }
    }
}

pub(crate) async fn a_model_adds_what_it_finds_and_what_it_does_not_answer_in_time_is_withheld(
    db: Db,
) {
    let mut bench = filled(db).await;
    let note = format!("Ada Quillfeather and {STRANGER} came. Takes metformin.");
    bench.ehr.put(document("n1", &note));
    bench.ehr.put(document("n2", "No change."));
    // Engines of one installation have their keys in common.
    let keys = Arc::new(MemoryKeyVault::new(1));
    // Each draws other ids than the one before it.
    let started = AtomicUsize::new(2);
    let reads = async |bench: &mut Bench, finder: Option<Double>| -> Value {
        let config = EngineConfig {
            entity_finder: finder.map(|double| Entities::found_by(Arc::new(double))),
            ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
        };
        let ports = chaperone_engine::Ports {
            keys: keys.clone(),
            random: Arc::new(SeededRandom::new(
                started.fetch_add(1, Ordering::SeqCst) as u64
            )),
            ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
        };
        bench.engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
        let agent = summariser(bench).await;
        bench.call(&agent, "list_documents", json!({})).await
    };
    // Off by default: the other layers know nothing of lighthouses.
    let read = reads(&mut bench, None).await;
    assert!(read.to_string().contains(STRANGER), "{read}");

    let asks = async |bench: &mut Bench, mood: Mood| -> (Value, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let double = Double {
            mood,
            clock: bench.clock.clone(),
            asked: asked.clone(),
        };
        let read = reads(bench, Some(double)).await;
        (read, asked.load(Ordering::SeqCst))
    };

    for mood in [Mood::Finds, Mood::TakesMs(FINDER_MS_MAX)] {
        let (read, asked) = asks(&mut bench, mood).await;
        let text = text_of(&read);
        assert!(!read.to_string().contains(STRANGER), "{mood:?}: {read}");
        assert!(
            text.contains("[NAME-") && text.contains("metformin"),
            "{text}"
        );
        assert_eq!((asked, &read["scrubbed"]["withheld"]), (2, &json!({})));
    }
    for (mood, times) in [
        (Mood::Fails, 2),
        (Mood::LiesAboutPlaces, 2),
        // Once late, it is not asked again for this answer.
        (Mood::TakesMs(FINDER_MS_MAX + 1), 1),
    ] {
        let (read, asked) = asks(&mut bench, mood).await;
        let seen = read.to_string();
        assert!(
            !seen.contains("metformin") && !seen.contains("No change"),
            "{mood:?}: {read}"
        );
        assert_eq!(
            (asked, &read["scrubbed"]["withheld"]),
            (times, &json!({ "finder-failed": 2 })),
            "{mood:?}"
        );
    }
}
