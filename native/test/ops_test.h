// The groups of native op checks that ops_test runs.
#pragma once

namespace cambium_test {
void linear_tests();
void low_rank_tests();
void attention_tests();
void pooled_attention_tests();
void attention_branch_tests();
void optimizer_tests();
void rows_tests();
void contrastive_tests();
void elements_tests();
void tiles_tests();
}  // namespace cambium_test
