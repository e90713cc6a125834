//! Labels, dictionaries and inputs of texts: positions, columns, and tables of the generated code. Expected values are
//! ONNX Runtime's.

edgec_macros::include_model!("models/iris.onnxtxt", level = "scalar");
edgec_macros::include_model!("models/titanic.onnxtxt", level = "scalar");

#[test]
fn a_label_is_a_position_in_the_table_and_a_dictionary_a_row() {
    let mut arena = iris::Arena::new();
    let mut model = iris::Model::new(&mut arena);
    let x = [
        [1.764_052_3, 0.400_157_2, 0.978_738, 2.240_893_1],
        [1.867_558, -0.977_277_9, 0.950_088_4, -0.151_357_2],
    ];
    let out = model.run(&x);
    let labels = out.output_label.map(|at| iris::LABELS[at as usize]);
    assert_eq!(labels, ["versicolor", "setosa"]);
    assert_eq!(iris::COLUMNS, ["setosa", "versicolor", "virginica"]);
    let expected = [[0.435_318_74, 0.511_838_14, 0.052_843_068], [0.719_067_1, 0.253_232_03, 0.027_700_977]];
    for (found, expected) in out.output_probability.as_flattened().iter().zip(expected.as_flattened()) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}

#[test]
fn words_go_in_as_positions() {
    let at = |table: &[&str], word: &str| table.iter().position(|w| *w == word).map_or(-1, |p| p as i64);
    let [sex, port] = [
        ["male", "female", "x", "male", "female"].map(|w| [at(&titanic::SEX_LABELS, w)]),
        ["S", "C", "Q", "nowhere", "S"].map(|w| [at(&titanic::PORT_LABELS, w)]),
    ];
    let mut arena = titanic::Arena::new();
    let mut model = titanic::Model::new(&mut arena);
    let out =
        model.run(titanic::Inputs { sex: &sex, port: &port, age: &[[1.5], [2.0], [3.0], [4.0], [5.0]] });
    assert_eq!(out.features[0], [0., 1., 0., 0., 1., 1.5]);
    assert_eq!(out.features[1], [1., 0., 1., 0., 0., 2.0]);
    assert_eq!(out.features[2], [0., 0., 0., 1., 0., 3.0]);
    assert_eq!(out.features[3], [0., 1., 0., 0., 0., 4.0]);
    assert_eq!(*out.code, [[7], [8], [-5], [-5], [7]]);
    let names = out.name.map(|[at]| titanic::NAME_LABELS[at as usize]);
    assert_eq!(names, ["elsewhere", "Cherbourg", "Queenstown", "elsewhere", "elsewhere"]);
    // Any other number is a word that the model does not know.
    let port = [[i64::MAX], [i64::MIN], [99], [-1], [5]];
    let out = model.run(titanic::Inputs { sex: &sex, port: &port, age: &[[0.0]; 5] });
    assert_eq!(*out.code, [[-5]; 5]);
}
