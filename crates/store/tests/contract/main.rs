//! The store contract, run on SQLite, on PostgreSQL and on the simulator's store in memory: every case is a
//! function of a store, and all of them run all cases. What only one backend can show is in `opening`,
//! `isolation` and `recovery`.
//!
//! PostgreSQL comes from `scripts/with-postgres` or the variable `CHAPERONE_TEST_POSTGRES`; where there is
//! none, these tests fail.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

#[path = "../support/cluster.rs"]
mod cluster;

mod aged;
mod bench;
mod commits;
mod concurrency;
mod isolation;
mod listings;
mod opening;
mod records;
mod recovery;
mod succession;
mod work;

/// Runs each case once per backend, under the same name.
macro_rules! on_all_backends {
    ($($module:ident: $($case:ident),* $(,)?;)*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let bench = crate::bench::Bench::sqlite().await;
                    crate::$module::$case(bench.store()).await;
                }
            )*)*
        }
        mod memory {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let store = std::sync::Arc::new(chaperone_testkit::MemoryStore::default());
                    crate::$module::$case(store).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let bench = crate::bench::Bench::postgres().await;
                    crate::$module::$case(bench.store()).await;
                    bench.clean().await;
                }
            )*)*
        }
    };
}

on_all_backends! {
    aged:
        payloads_are_listed_by_age_and_erased,
        records_past_their_end_are_listed,
        finished_work_is_forgotten_and_nothing_else;
    commits:
        a_new_stream_is_at_version_zero,
        an_append_to_another_version_is_refused,
        several_appends_to_one_stream_count_on,
        an_unconditional_append_always_happens,
        a_stream_guard_looks_at_the_stream_before_the_commit,
        nothing_of_a_refused_commit_remains,
        an_empty_commit_succeeds,
        leaves_are_what_the_stream_shows,
        leaves_are_read_from_a_position,
        a_stream_is_read_on_behind_a_version,
        payloads_are_put_once_and_read_back,
        a_commit_that_no_store_can_take_is_refused_alone;
    concurrency:
        sequence_numbers_have_no_gaps,
        one_of_many_appends_to_a_version_wins,
        a_refused_commit_does_not_disturb_its_neighbours,
        a_single_use_record_is_consumed_once,
        an_item_is_claimed_by_one_worker;
    records:
        a_record_is_created_once,
        an_expired_record_counts_as_absent,
        put_replaces_and_counts,
        an_update_needs_the_revision,
        consuming_needs_the_record,
        deleting_does_not,
        changes_of_one_key_follow_each_other,
        a_record_guard_sees_revision_and_absence,
        values_come_back_as_they_were,
        records_that_expired_long_ago_make_room,
        projections_are_put_and_removed,
        projections_are_counted_and_cleared_per_tenant;
    listings:
        rows_are_in_bytewise_order_of_sort_and_key,
        pages_follow_each_other_in_both_directions,
        a_group_is_listed_alone,
        a_listing_has_at_most_a_thousand_rows,
        expired_records_are_not_listed;
    work:
        due_work_is_claimed_in_order_of_time,
        work_of_one_tenant_is_claimed_up_to_the_limit,
        one_order_key_runs_one_at_a_time,
        work_without_an_order_key_runs_freely,
        a_lane_is_claimed_without_the_other,
        an_item_that_is_not_due_blocks_its_order_key,
        a_held_item_blocks_until_it_is_deferred,
        a_claim_that_ran_out_passes_to_another_worker,
        a_stale_claim_changes_nothing,
        work_is_completed_without_a_claim_by_others,
        an_id_is_used_once,
        deferred_work_keeps_its_place_and_may_change_kind,
        work_of_one_commit_and_its_events_appear_together;
    succession:
        a_lease_is_taken_renewed_and_passed_on,
        leases_of_tenants_and_names_are_separate,
        an_epoch_guard_holds_while_the_lease_does,
        checkpoints_follow_each_other,
        tree_hashes_are_read_in_the_order_asked,
        tenants_are_those_with_events;
    isolation:
        tenants_do_not_see_each_other;
}
