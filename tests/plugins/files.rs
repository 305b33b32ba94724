use pilotfish_tests::fixtures;
#[test]
fn builds() {
    println!("{:?}", fixtures::library("fixture-1-0"));
    println!("{}", fixtures::refusal("fixture-aborting", "-Cpanic=abort"));
    for f in fixtures::SKEWED { println!("{:?}", pilotfish::plugins::load(fixtures::library(f)).map_err(|e| e.to_string())); }
}
