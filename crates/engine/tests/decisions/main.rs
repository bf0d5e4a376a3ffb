//! What must not happen between a proposal and its delivery, each beside what may: on a real store,
//! with an EHR in memory and a clock that stands still.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../../store/tests/support/cluster.rs"]
mod cluster;

mod audit;
mod audit_kinds;
mod batches;
mod bench;
mod break_glass;
mod bypass;
mod canaries;
mod claims;
mod codes;
mod cohorts;
mod consents;
mod covers;
mod decision_support;
mod deliveries;
mod edits;
mod entities;
mod events;
mod exceptions;
mod facts;
mod free_text;
mod inventory;
mod keys;
mod launches;
mod limits;
mod nodes;
mod notes;
mod oversight;
mod passkeys;
mod patches;
mod plausible;
mod proposals;
mod reads;
mod renewals;
mod replays;
mod resemblances;
mod retention;
mod retention_rules;
mod reviews;
mod sending;
mod shredding;
mod together;
mod tokens;
mod undo;
mod undo_kinds;
mod verifications;

/// Runs each case once per database, under the same name.
macro_rules! on_both {
    ($($module:ident: $($case:ident),* $(,)?;)*) => {
        mod sqlite {
            $($(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::bench::Db::Sqlite).await;
            })*)*
        }
        mod postgres {
            $($(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::bench::Db::Postgres).await;
            })*)*
        }
    };
}

on_both! {
    canaries:
        an_approved_canary_is_missed_and_goes_nowhere,
        while_it_waits_nothing_but_a_decision_moves_it,
        a_changed_canary_makes_no_proposal,
        a_canary_looks_like_what_it_is_among,
        a_canary_among_several_is_found_out_at_once,
        each_canary_of_the_default_list_is_what_people_are_asked_about,
        nobody_is_tested_who_was_not_told_or_has_no_time,
        whom_the_ehr_knows_is_no_canary,
        nobody_else_finds_out_who_decided_about_a_canary,
        whose_likeness_a_canary_takes_is_looked_at_on_record_and_shown_to_nobody,
        a_canary_is_taken_back_when_there_is_other_work;
    covers:
        what_is_handed_to_somebody_who_is_away_goes_to_whoever_covers,
        cover_gives_no_right_to_decide,
        who_covers_is_said_by_whoever_goes_away_or_an_administrator;
    launches:
        a_launch_leads_to_the_patient_who_is_open_and_signs_in_who_came,
        a_launch_counts_once_and_in_the_browser_that_began_it,
        whoever_is_not_linked_comes_in_by_no_launch,
        a_launch_leads_to_nobody_whom_the_ehr_does_not_name_clearly,
        a_card_leads_to_its_review_where_patient_and_part_fit,
        an_ehr_is_told_how_many_wait_for_whoever_looks_and_nothing_else,
        a_token_of_an_ehr_counts_once_for_this_service;
    keys:
        uses_of_keys_are_counted_and_recorded_in_a_while,
        a_key_that_cannot_be_had_stops_the_call_and_is_recorded,
        a_destroyed_key_is_destroyed_again_before_anything_is_served;
    renewals:
        a_routine_renewal_is_approved_by_whom_the_protocol_names_and_delivered,
        of_two_renewals_of_one_prescription_one_is_sent,
        visits_and_results_are_looked_at_again_right_before_a_renewal_is_sent,
        a_renewal_is_looked_at_again_right_before_it_is_sent,
        what_no_protocol_covers_is_refused_whatever_the_agent_says,
        a_protocol_that_is_unsigned_or_over_covers_nothing;
    together:
        several_changes_take_effect_as_one,
        one_refused_change_refuses_all_and_each_has_a_decision,
        what_does_not_belong_together_is_not_proposed,
        people_see_all_of_it_and_decide_on_all_of_it,
        what_holds_for_one_of_them_holds_for_all,
        all_or_nothing_of_it_is_there_whatever_the_network_does,
        what_is_there_in_part_is_a_persons_to_look_at,
        an_update_that_is_stale_takes_the_rest_with_it,
        what_was_made_as_one_is_undone_as_one,
        each_is_judged_as_if_the_others_were_on_record;
    replays:
        a_ruling_is_the_same_when_it_is_asked_again,
        another_bundle_flips_what_it_rules_otherwise;
    audit:
        who_saw_names_every_access_of_the_patient_and_none_of_another,
        only_the_privacy_officer_may_ask_and_is_seen_asking,
        records_that_were_merged_are_asked_about_together_from_either_side,
        a_patient_is_meant_by_token_reference_or_identifier_and_nobody_by_anything_else,
        spans_and_pages_hold_what_they_say,
        rows_that_were_dropped_are_folded_again,
        what_an_engine_recorded_is_exported_as_valid_audit_events,
        the_accounting_lists_what_is_not_excluded,
        a_stream_brings_every_audit_event_at_least_once_and_goes_on_where_it_was;
    batches:
        light_ones_of_a_kind_are_approved_each_by_itself,
        what_is_not_light_is_decided_by_itself;
    break_glass:
        a_person_breaks_the_glass_for_themselves_and_for_a_time,
        what_breaking_the_glass_does_not_open;
    bypass:
        an_approval_of_something_else_approves_nothing,
        an_approval_in_another_tenant_finds_nothing,
        what_changed_after_the_approval_is_not_sent,
        an_approval_under_rules_that_are_gone_is_not_sent,
        two_accounts_of_one_person_are_one_person,
        arguments_that_nobody_approved_are_not_executed,
        what_is_put_into_the_queue_without_an_approval_is_not_sent,
        a_switch_between_approval_and_send_holds_it_back,
        while_a_switch_stands_proposals_are_taken_and_wait,
        a_switch_that_is_moved_while_somebody_approves_counts,
        a_node_whose_epoch_is_over_sends_nothing;
    patches:
        an_update_goes_as_the_patch_that_was_approved_once,
        a_patch_of_unknown_outcome_takes_effect_once,
        a_patch_of_what_somebody_changed_is_not_sent,
        what_was_shown_of_one_way_shows_nothing_of_the_other,
        a_correction_goes_as_a_patch_too;
    claims:
        what_somebody_has_in_hand_is_theirs_until_they_let_go_or_it_ends,
        what_a_trainee_approves_waits_for_a_colleague_who_signs_beside_them,
        what_a_trainee_approves_a_colleague_can_refuse,
        what_somebody_has_in_hand_is_taken_over_with_a_note,
        something_is_handed_to_who_can_decide_it_and_to_nobody_else,
        nobody_decides_what_was_not_on_their_screen_for_a_while;
    cohorts:
        a_list_is_asked_for_approved_and_worked_off_once_each,
        who_asked_does_not_approve_and_who_has_no_part_sees_nothing,
        exactly_the_list_that_was_shown_is_approved,
        a_list_ends_with_its_time_and_with_its_rules,
        a_list_that_is_too_long_is_refused_or_cut_as_the_cohort_says,
        each_patient_is_looked_at_again_right_before_their_grant,
        a_record_that_was_merged_since_gets_no_grant,
        grants_are_made_so_many_a_minute_and_none_while_anything_is_switched_off,
        a_stopped_job_takes_back_what_was_not_used,
        a_job_that_is_cut_short_goes_on_with_each_patient_once;
    consents:
        a_read_is_refused_reduced_or_permitted_as_the_patients_consents_say,
        what_consent_opens_comes_with_its_obligations,
        what_cannot_be_read_refuses_and_an_ehr_without_consents_is_declared,
        consents_are_asked_for_once_a_minute_and_a_withdrawal_counts_within_it,
        an_announced_withdrawal_counts_at_once,
        consent_withdrawn_between_approval_and_send_is_not_sent,
        a_withdrawal_voids_what_is_queued_at_once,
        a_send_waits_while_consents_cannot_be_read,
        a_message_goes_only_where_the_patient_agreed,
        an_opt_out_counts_before_the_ehr_has_it;
    decision_support:
        a_critical_card_holds_an_order_until_somebody_says_why_it_goes_on,
        a_new_critical_card_at_approval_holds_it,
        only_whose_turn_it_is_causes_a_question_and_cards_below_critical_hold_nothing,
        what_is_specially_protected_is_told_to_nobody_and_that_is_said,
        a_service_that_is_not_heard_is_shown_and_holds_what_the_table_says;
    deliveries:
        a_slow_ehr_holds_up_nobody_elses_writes,
        a_delivery_goes_on_while_the_store_is_asked_for_more,
        what_needs_no_order_has_places_of_its_own,
        what_an_ehr_changes_on_its_way_in_is_put_before_a_person,
        a_change_since_is_ours_or_somebody_elses,
        a_slot_taken_before_the_send_is_not_booked,
        an_entry_by_hand_is_declined_with_a_reason,
        an_entry_by_hand_ends_when_its_time_is_up,
        who_approved_is_told_when_it_does_not_happen,
        an_engine_leaves_other_tenants_work_alone,
        rebuilt_projections_are_the_live_ones,
        a_rebuild_takes_nothing_back_that_moves_meanwhile;
    edits:
        what_an_agent_proposed_is_changed_and_approved_as_it_then_is,
        what_a_change_may_not_do_is_refused_and_changes_nothing,
        a_change_never_needs_less_than_what_it_takes_the_place_of,
        a_note_is_changed_by_a_colleague_and_taint_stays,
        what_came_from_outside_stays_marked_and_a_change_counts_as_a_no;
    entities:
        a_model_adds_what_it_finds_and_what_it_does_not_answer_in_time_is_withheld;
    events:
        an_event_puts_the_ehrs_own_patient_before_its_agent_once,
        an_event_sent_many_times_at_once_makes_one_grant,
        what_the_ehr_does_not_confirm_makes_no_grant,
        an_event_about_a_merged_record_leads_to_the_surviving_one,
        an_encounter_is_the_context_of_the_work_it_causes,
        an_event_whose_record_failed_is_sent_again_and_taken_once,
        switches_and_lapsed_agreements_stop_events;
    exceptions:
        an_exception_is_asked_for_granted_used_once_and_looked_at,
        who_asked_and_who_owns_the_agent_grant_nothing,
        the_team_that_owns_an_agent_grants_it_nothing,
        an_exception_ends_with_the_rules_it_was_asked_under,
        an_exception_ends_with_its_time,
        what_no_exception_lifts_is_not_asked_for,
        what_changed_since_is_not_excepted,
        two_who_use_an_exception_at_once_use_it_once;
    facts:
        what_is_under_legal_hold_is_decided_by_a_person_who_is_not_alone_to_know,
        an_agent_that_writes_too_much_goes_on_with_two_people,
        an_agent_that_turns_to_too_many_patients_goes_on_with_two_people,
        several_changes_of_one_proposal_count_each,
        a_value_outside_its_alert_limits_is_told_to_a_nurse,
        a_confidential_service_for_an_adolescent_is_a_clinicians,
        whatever_escalators_rest_on_is_observed_or_named_with_the_reason;
    free_text:
        a_note_is_shown_with_slots_that_are_put_back_in_what_is_drafted_from_it,
        slots_are_the_same_in_every_call_process_and_node_of_an_envelope,
        a_slot_of_another_envelope_or_none_is_refused,
        slots_end_with_their_envelope;
    limits:
        strangers_cannot_fill_the_ledger;
    nodes:
        a_text_waits_for_the_morning_and_holds_up_nothing_else,
        a_message_that_the_patient_should_not_get_is_refused,
        a_withdrawal_told_to_one_node_voids_the_queue_of_all_and_is_seen_by_all_within_a_minute;
    notes:
        draft_note_sees_templates_and_the_encounters_metadata_and_nothing_else,
        a_draft_follows_its_template_or_is_refused;
    oversight:
        what_people_find_wrong_is_no_longer_let_through_alone,
        who_agrees_lets_it_go_on_and_only_a_share_is_drawn,
        confidence_counts_once_people_have_borne_it_out,
        who_approves_too_fast_pauses_and_nothing_else_does,
        what_waits_too_long_is_told_once_and_can_still_be_decided;
    passkeys:
        a_passkey_approves_the_order_it_was_asked_for_once,
        what_is_not_this_persons_key_used_here_and_now_is_refused_and_recorded,
        a_key_whose_counter_went_back_is_out_of_use,
        keys_are_added_and_removed_only_with_a_factor_given_for_that,
        an_administrator_signs_in_with_a_passkey_after_the_password;
    plausible:
        an_order_is_ruled_by_what_the_rules_find,
        a_list_that_is_too_long_to_look_at_is_not_looked_at,
        a_protected_record_is_used_and_not_repeated,
        what_an_agent_hears_is_the_same_whatever_the_record_says,
        an_appointment_is_ruled_by_what_the_rules_find,
        what_the_ehr_does_not_tell_is_for_people_to_find_out,
        a_unit_slip_is_pointed_out_and_not_put_right;
    proposals:
        a_switch_stops_calls_at_once_here_and_within_a_second_at_another_node;
    reads:
        what_an_intent_opens_is_shown_with_all_that_a_tool_names_below_it;
    retention:
        a_class_goes_when_its_time_is_up_and_leaves_a_receipt,
        what_is_in_work_or_in_use_stays,
        a_sweep_that_cannot_be_recorded_deletes_nothing,
        a_minors_record_stays_until_majority_and_more,
        records_past_their_end_and_work_that_is_done_are_cleared,
        payloads_of_an_older_version_stay_while_their_work_is_open,
        a_hold_keeps_what_it_is_on_until_it_is_released,
        a_hold_that_comes_in_between_keeps_what_was_about_to_go;
    sending:
        what_a_report_does_not_show_of_transactions_is_not_used,
        nothing_is_sent_while_the_ehr_fails_until_one_is_tried,
        a_wish_to_be_left_alone_is_kept,
        no_more_than_so_many_are_under_way,
        what_an_operation_filed_is_found_and_what_it_did_not_is_asked_about,
        a_signature_in_the_ehr_is_the_approval,
        what_is_not_signed_as_it_was_placed_does_not_count,
        a_draft_that_was_lost_is_found_and_nobodys_word_delivers_it,
        a_draft_that_a_person_says_is_there_is_looked_for_again;
    shredding:
        shredding_waits_for_law_holds_and_work,
        a_shredded_patient_is_unreadable_and_stays_so_after_a_restore,
        a_shredding_that_was_cut_short_is_gone_on_with;
    tokens:
        a_call_says_which_tokens_it_followed,
        a_token_in_text_is_refused_and_not_followed,
        a_person_is_told_what_a_token_stands_for_with_a_reason;
    undo:
        what_was_delivered_is_marked_as_an_error_once_people_agree,
        two_runs_make_one_compensation,
        what_others_changed_since_takes_two_people_and_keeps_their_change,
        what_was_not_sent_is_set_aside_and_a_person_decides,
        an_unknown_outcome_is_found_out_before_it_is_undone,
        what_a_person_entered_a_person_corrects,
        what_moves_while_a_run_looks_at_it_stays_where_it_went,
        what_rests_on_an_undone_effect_comes_to_light,
        a_run_that_is_cut_short_goes_on_and_does_nothing_twice,
        who_may_undo_and_what_it_takes,
        a_model_a_prompt_and_a_time_select_what_they_made,
        a_person_who_says_no_ends_it_and_is_asked_by_a_task;
    undo_kinds:
        a_booking_is_cancelled_and_one_that_others_changed_is_not,
        a_message_is_taken_back_by_another_where_the_patient_may_be_written_to,
        a_change_is_put_back_and_one_that_others_built_on_is_not,
        what_the_ehr_shows_a_part_of_a_person_corrects,
        what_cannot_be_undone_by_a_machine_goes_to_a_person;
    resemblances:
        what_says_the_same_as_a_text_that_was_read_is_tainted_though_it_names_no_source,
        what_cannot_be_compared_counts_as_alike;
    codes:
        w01_a_code_and_the_patients_own_word_add_an_address_and_the_old_one_is_told,
        w02_without_the_code_it_is_held_and_nothing_is_written,
        a_code_counts_for_its_own_order_portal_and_time,
        codes_are_few_and_go_where_a_code_can_go,
        guesses_at_one_time_are_no_more_than_guesses_one_by_one,
        who_had_the_address_is_told_though_mail_fails_for_a_while,
        a_proxy_hands_in_a_code_where_the_gate_is_theirs;
    verifications:
        evidence_made_here_verifies_its_own_order_once,
        a_proxy_speaks_for_a_patient_when_the_ehr_says_so_now,
        an_attestation_for_another_organisation_finds_nothing,
        evidence_of_other_things_leaves_it_held,
        a_hold_placed_while_something_waits_is_seen_before_it_passes,
        what_is_near_by_now_is_not_cancelled_by_a_patients_word,
        who_has_no_say_is_shown_nothing;
    reviews:
        a_review_is_for_who_has_a_part_in_it,
        nobody_approves_what_other_rules_ruled_on,
        digests_in_the_ledger_say_nothing_without_the_salt,
        the_newest_of_very_many_switches_counts;
}
