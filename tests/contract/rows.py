"""Rows of the specification that tests of the kit show."""

from __future__ import annotations

ROWS: dict[str, tuple[str, ...]] = {
    "test_every_byte_value_survives": ("C12",),
    "test_stdin_is_empty_unless_given": ("C15",),
    "test_a_command_that_would_ask_a_person_ends_at_once": ("C15",),
    "test_env_is_the_sandboxs_own_plus_what_is_given": ("C30",),
    "test_a_command_has_three_descriptors": ("C30",),
    "test_endless_output_is_bounded_and_ends_with_the_timeout": ("C10",),
    "test_a_line_of_a_gigabyte_is_bounded": ("C11",),
    "test_a_timeout_kills_the_whole_tree_before_it_is_told": ("C13",),
    "test_a_command_that_ignores_sigterm_dies": ("C13",),
    "test_a_background_child_does_not_hold_the_call_and_lives_on": ("C14",),
    "test_cancellation_at_every_step_of_a_creation_leaves_nothing": ("C46",),
    "test_any_name_works_with_every_method": ("C18",),
    "test_what_is_no_file_is_refused_at_once": ("C17",),
    "test_a_file_too_large_for_memory_is_refused_and_read_in_parts": ("C16",),
    "test_exclusive_and_expected_writes": ("C21",),
    "test_a_tree_goes_up_and_comes_back_the_same": ("C18",),
    "test_links_are_kept_where_they_cannot_hurt": ("C19",),
    "test_cancelled_at_any_await_it_leaves_nothing_behind": ("C46", "D8"),
}
