import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct ModelTests {
  @Test func namesArePropertyPaths() {
    let model = Model(
      Sequential {
        Linear(4, 3, bias: false)
        BatchNorm(3)
        ReLU()
        Residual(3, norm: true)
      })
    #expect(
      model.parameters.map(\.path) == [
        "layers.0.weight", "layers.1.scale", "layers.1.shift", "layers.3.first.weight", "layers.3.first.bias",
        "layers.3.second.weight", "layers.3.norm.scale", "layers.3.norm.shift",
      ])
    #expect(
      model.runningStatistics.map(\.path) == [
        "layers.1.runningMean", "layers.1.runningVariance", "layers.1.batchesTracked", "layers.3.norm.runningMean",
        "layers.3.norm.runningVariance", "layers.3.norm.batchesTracked",
      ])
  }

  @Test func findsVariablesInEveryKindOfProperty() {
    class Base: Layer {
      let inherited = Parameter([1])
      func callAsFunction(_ x: Tensor) -> Tensor { x }
    }
    final class Derived: Base {
      let own = Parameter([2])
      var itself: Derived?
    }
    struct Everything: Layer {
      let table = [Float](repeating: 0, count: 100_000)
      let heads = ["b": Linear(1, 1, bias: false), "a": Linear(1, 1, bias: false), "c": Linear(1, 1, bias: false)]
      let pair = (Parameter([3]), named: Parameter([4]))
      let grid = [[Parameter([5])], [Parameter([6]), Parameter([7])]]
      let absent: Parameter? = nil
      let object = Derived()
      func callAsFunction(_ x: Tensor) -> Tensor { x }
    }
    let layer = Everything()
    layer.object.itself = layer.object
    #expect(
      Model(layer).parameters.map(\.path) == [
        "heads.a.weight", "heads.b.weight", "heads.c.weight", "pair.0", "pair.named", "grid.0.0", "grid.1.0",
        "grid.1.1", "object.inherited", "object.own",
      ])
  }

  @Test func residualConnectionIsPlainSwift() throws {
    let layer = Residual(2)
    let model = Model(layer)
    layer.first.weight.value = try HostTensor([2, 2], [1.0, 0, 0, 1])
    layer.first.bias?.value = try HostTensor([2], [0.0, 0])
    layer.second.weight.value = try HostTensor([2, 2], [2.0, 0, 0, 2])
    #expect(try run(model, [1, 2], [3, -4]).outputs["y"] == [9, -4])
  }

  @Test func aSharedParameterHasOneName() throws {
    let shared = Linear(3, 3)
    let model = Model(Sequential([shared, ReLU(), shared]))
    #expect(model.parameters.map(\.path) == ["layers.0.weight", "layers.0.bias"])
    let graph = try graph(of: model.root, [4, 3])
    #expect(graph.inputs.map(\.input.label) == ["x", "layers.0.weight", "layers.0.bias"])
    #expect(graph.nodes.filter { $0.operation.rules.name == "matMul" }.count == 2)
    #expect(try model.summary(input: [3]).rows.map(\.parameterCount) == [12, 0, 0])
    // As layers one by one it would come back with two of each.
    #expect(model.configuration == nil)
  }

  @Test func twoVariablesOfOneNameAreAnError() throws {
    class Base: Layer {
      private let weight = Parameter([3])
      func callAsFunction(_ x: Tensor) -> Tensor { x * weight }
    }
    final class Derived: Base {
      private let weight = Parameter([3])
      override func callAsFunction(_ x: Tensor) -> Tensor { super.callAsFunction(x) * weight }
    }
    struct Heads: Layer {
      let heads: [String: any Layer] = ["a": Sequential([BatchNorm(3)]), "a.layers.0": BatchNorm(3, scale: false)]
      func callAsFunction(_ x: Tensor) -> Tensor { x }
    }
    for (layer, name) in [(Derived() as any Layer, "weight"), (Heads(), "heads.a.layers.0.shift")] {
      let problem = "expects a name for each variable, got two variables named \(name)"
      let model = Model(layer)
      #expect(throws: SettingsError("initialize", problem)) { try model.initialize(seed: 1) }
      #expect(throws: SettingsError("load", problem)) { try model.load([:]) }
      #expect(throws: SettingsError("fold", problem)) { try model.fold() }
      #expect(throws: GraphError("summary", problem)) { try model.summary(input: [3]) }
      #expect(traceError(layer, [4, 3]) == "[model] \(problem)")
    }
  }

  @Test func aParameterOutsideOfTheModelIsAnError() {
    struct Hidden: Layer {
      func callAsFunction(_ x: Tensor) -> Tensor { x * Parameter([3]) }
    }
    #expect(
      traceError(Sequential { Hidden() }, [4, 3])
        == "[parameter] layers.0: expects a stored property of a model, got a parameter of shape [3] "
        + "that is not a stored property of the model")
  }

  @Test func anEncoderCanBePartOfTwoModels() throws {
    let encoder = Linear(3, 3, bias: false)
    let (a, b) = (Model(Sequential([encoder])), Model(Sequential([ReLU(), encoder])))
    for (model, name) in [(a, "layers.0.weight"), (b, "layers.1.weight"), (a, "layers.0.weight")] {
      let builder = GraphBuilder()
      _ = model(builder.input("x", TensorType([4, 3])))
      #expect(try builder.graph().inputs.map(\.input.label) == ["x", name])
    }
  }

  @Test func initializesWhatHasNoValue() throws {
    let layer = Linear(3, 2)
    let model = Model(Sequential([layer, BatchNorm(2)]))
    let given = try HostTensor([2], [1.5, 2.5] as [Float])
    layer.bias?.value = given
    try model.initialize(seed: 7)
    #expect(layer.bias?.value == given)
    #expect(model.parameters.map(\.value?.shape) == [[3, 2], [2], [2], [2]])
    #expect(model.parameters[2].value?.doubles == [1, 1])
    #expect(model.runningStatistics.map(\.value?.doubles) == [[0, 0], [1, 1], [0, 0]])

    let weight = layer.weight.value
    try model.initialize(seed: 8)
    #expect(layer.weight.value == weight)
    try model.initialize(seed: 8, reset: true)
    #expect(layer.weight.value != weight)
    #expect(layer.bias?.value != given)
    try model.initialize(seed: 7, dtype: .float64, reset: true)
    #expect(layer.weight.value?.converted(to: .float32) == weight)
    try model.initialize(seed: 1, dtype: .float32)
    #expect(layer.weight.value == weight)
  }

  @Test func refusesToInitializeTheImpossible() {
    #expect(throws: SettingsError("initializer", "layers.0.weight: expects positive extents, got [0, 2]")) {
      try Model(Sequential { Linear(0, 2) }).initialize(seed: 1)
    }
    #expect(throws: SettingsError("initializer", "weight: expects a finite bound of 0 or more, got inf")) {
      try Model(Linear(1, 1, weight: .uniform(.infinity))).initialize(seed: 1)
    }
    #expect(throws: SettingsError("initializer", "runningMean: expects positive extents, got [-1]")) {
      try Model(BatchNorm(-1, scale: false, shift: false)).initialize(seed: 1)
    }
    #expect(throws: SettingsError("initialize", "bias: expects a value of shape [2], got f64[1]")) {
      let layer = Linear(3, 2)
      layer.bias?.value = try HostTensor([1], [1.0])
      try Model(layer).initialize(seed: 1)
    }
  }

  @Test func stateGoesAndComes() throws {
    func network() -> Model {
      Model(
        Sequential {
          Linear(3, 2)
          BatchNorm(2)
        })
    }
    let (a, b) = (network(), network())
    #expect(a.state.isEmpty)
    try a.initialize(seed: 3)
    let state = Dictionary(uniqueKeysWithValues: a.state.map { ($0.name, $0.value) })
    try b.load(state)
    #expect(b.state.map(\.name) == a.state.map(\.name))
    #expect(b.state.map(\.value) == a.state.map(\.value))

    var wrong = state
    wrong["layers.0.weight"] = nil
    wrong["layers.1.scale"] = try HostTensor([3], [1.0, 2, 3])
    wrong["other"] = try HostTensor([1], [1.0])
    let before = b.state.map(\.value)
    #expect(
      throws: SettingsError(
        "load",
        "expects the variables of the model: layers.0.weight is missing; "
          + "layers.1.scale is f64[3], expected real numbers of shape [2]; other is no variable of the model")
    ) { try b.load(wrong) }
    #expect(b.state.map(\.value) == before)
  }
}

@Suite struct ModelSummaryTests {
  /// The network of Géron's "Hands-On Machine Learning", chapter 11.
  private func handsOn(bias: Bool) -> Sequential {
    Sequential {
      Flatten()
      BatchNorm(784)
      for (inputs, outputs) in [(784, 300), (300, 100)] {
        Linear(inputs, outputs, bias: bias)
        BatchNorm(outputs)
        ELU()
      }
      Linear(100, 10)
    }
  }

  @Test func countsTheHandsOnNetwork() throws {
    let summary = handsOn(bias: true).summary(input: [28, 28])
    #expect(summary.totalCount == 271_346)
    #expect(summary.nonTrainableCount == 2_368)
    #expect(summary.trainableCount == 268_978)
    #expect(handsOn(bias: true).summary(input: [784]).totalCount == 271_346)
    // Without the 400 biases that batch norm would take out again.
    #expect(handsOn(bias: false).summary(input: [784]).totalCount == 270_946)
  }

  @Test func isATable() {
    let model = Sequential {
      Linear(784, 32, bias: false)
      BatchNorm(32)
      ReLU()
      Sequential { Residual(32) }
      Linear(32, 10)
    }
    #expect(
      "\(model.summary(input: [784]))" == """
        Layer              Type       Output   Parameters
        -------------------------------------------------
        layers.0           Linear     (N, 32)      25,088
        layers.1           BatchNorm  (N, 32)         128
        layers.2           ReLU       (N, 32)           0
        layers.3.layers.0  Residual   (N, 32)       2,080
        layers.4           Linear     (N, 10)         330
        -------------------------------------------------
        Total                                      27,626
        Trainable                                  27,562
        Non-trainable                                  64
        """)
  }

  @Test func rowsSumToTheTotal() throws {
    let model = Model(handsOn(bias: false))
    model.parameters[0].isTrainable = false
    let summary = try model.summary(input: [784])
    #expect(summary.rows.map(\.parameterCount).reduce(0, +) == summary.totalCount)
    #expect(summary.nonTrainableCount == 2_368 + 784)
  }

  @Test func showsTheBatchAsN() {
    struct Merge: Layer {
      func callAsFunction(_ x: Tensor) -> Tensor { x.reshape([x.shape[0] * x.shape[1], x.shape[2]]) }
    }
    #expect(
      Sequential {
        ReLU()
        Merge()
      }.summary(input: [3, 5]).rows.map(\.output) == ["(N, 3, 5)", "(3·N, 5)"])
    #expect(
      Linear(3, 2).summary(input: [3]).rows == [
        .init(path: "Linear", type: "Linear", output: "(N, 2)", parameterCount: 8)
      ])
  }

  @Test func throwsOrShowsTheError() {
    let model = Sequential {
      Linear(784, 32)
      Linear(30, 10)
    }
    let error = GraphError("linear", path: "layers.1", "expects 30 features on the last axis, got [N, 32]")
    #expect(throws: error) { try Model(model).summary(input: [784]) }
    #expect(model.summary(input: [784]).description == error.description)
    #expect(model.summary(input: [784]).rows.isEmpty)
    #expect(
      Sequential { Linear(Int.max, 2) }.summary(input: [3]).description
        == "[summary] layers.0.weight: expects at most 2147483647 elements, got [\(Int.max), 2]")
    #expect(model.summary(input: [-1]).description == "[summary] expects positive extents, got [-1]")
  }
}
