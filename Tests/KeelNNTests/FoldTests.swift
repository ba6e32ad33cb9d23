import Foundation
import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct FoldTests {
  /// A network in which everything can be folded, the shape of a sample and the number of layers that are left.
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let sample: Shape
    let left: Int
    let network: @Sendable () -> Sequential

    init(_ name: String, _ sample: Shape, left: Int, _ layers: @escaping @Sendable () -> [any Layer]) {
      (self.name, self.sample, self.left) = (name, sample, left)
      network = { Sequential(layers()) }
    }

    var testDescription: String { name }
  }

  static let foldable = [
    Case("behind a linear layer", [6], left: 3) { [Linear(6, 4, bias: false), BatchNorm(4), ReLU(), Linear(4, 3)] },
    Case("behind one with a bias", [6], left: 3) { [Linear(6, 4), BatchNorm(4), ELU(), Linear(4, 3)] },
    Case("before a linear layer", [6], left: 3) { [BatchNorm(6), Linear(6, 4, bias: false), ReLU(), Linear(4, 3)] },
    Case("between two", [6], left: 2) { [Linear(6, 4), BatchNorm(4), Linear(4, 3)] },
    Case("behind an activation", [6], left: 3) { [Linear(6, 4), Tanh(), BatchNorm(4), Linear(4, 3)] },
    Case("at the end", [6], left: 1) { [Linear(6, 4), BatchNorm(4)] },
    Case("several in a row", [6], left: 1) { [BatchNorm(6), BatchNorm(6), Linear(6, 4), BatchNorm(4), BatchNorm(4)] },
    Case("without scale", [6], left: 1) { [Linear(6, 4), BatchNorm(4, scale: false)] },
    Case("without shift", [6], left: 1) { [BatchNorm(6, shift: false), Linear(6, 4)] },
    Case("without both", [6], left: 1) { [Linear(6, 4), BatchNorm(4, scale: false, shift: false)] },
    Case("of Keras", [6], left: 1) { [Linear(6, 4), BatchNorm(4, convention: .keras)] },
    Case("nested", [6], left: 2) { [Sequential([Linear(6, 4)]), Sequential([Sequential([BatchNorm(4)]), ReLU()])] },
    Case("rows of features", [5, 6], left: 1) { [BatchNorm(6), Linear(6, 4), BatchNorm(4)] },
    Case("flattened, channels last", [4, 3], left: 2) { [BatchNorm(3), Flatten(), Linear(12, 4)] },
    Case("flattened, channels first", [3, 4], left: 2) { [BatchNorm(3, axis: 1), Flatten(), Linear(12, 4)] },
    Case("flattened, channels between", [2, 3, 4], left: 2) { [BatchNorm(3, axis: 2), Flatten(), Linear(24, 4)] },
    Case("taken flat, channels first", [3, 4], left: 1) { [BatchNorm(3, axis: -2), Linear(12, 4)] },
    Case("taken flat, channels last", [4, 3], left: 1) { [BatchNorm(3), Linear(12, 4)] },
    Case("flattening what is flat", [6], left: 2) { [Linear(6, 4), Flatten(), BatchNorm(4, axis: 1)] },
    Case("axis 1 of a matrix", [6], left: 2) { [Linear(6, 4), BatchNorm(4, axis: 1), ReLU()] },
  ]

  @Test(arguments: foldable)
  func outputsAreTheSame(network: Case) throws {
    let sample = network.sample
    let model = try trained(network.network())
    let before = model.state.map { ($0.name, $0.value.bytes) }.description
    let folding = try model.fold(sample: sample)
    #expect(folding.foldedCount == folding.entries.count)
    #expect((folding.model.root as? Sequential)?.layers.count == network.left)
    #expect(folding.model.runningStatistics.isEmpty)

    var random = Philox(seed: 7)
    let shape = Shape([4] + sample.dimensions)
    let x = (0..<shape.count).map { _ in 1.5 * random.nextNormal() + 0.5 }
    let expected = try #require(try run(model, shape, x).outputs["y"])
    let folded = try #require(try run(folding.model, shape, x).outputs["y"])
    #expect(departure(folded, expected) < 1e-13)
    // The original is as it was.
    #expect(model.state.map { ($0.name, $0.value.bytes) }.description == before)
  }

  @Test func newWeightsAreThoseOfTheFormulas() throws {
    let (linear, norm) = (Linear(2, 2, bias: false), BatchNorm(2, epsilon: 0.25))
    let model = Model(Sequential([linear, norm]))
    try model.initialize(seed: 1, dtype: .float64)
    linear.weight.value = try HostTensor([2, 2], [1.0, 2, 3, 4])
    norm.scale?.value = try HostTensor([2], [2.0, 3])
    norm.shift?.value = try HostTensor([2], [0.5, -1])
    norm.runningMean?.value = try HostTensor([2], [10.0, 20])
    norm.runningVariance?.value = try HostTensor([2], [0.75, 3.75])
    // s = 2/1 and 3/2.
    let state = try model.folded().state
    #expect(state.map(\.name) == ["layers.0.weight", "layers.0.bias"])
    #expect(state[0].value.doubles == [2, 3, 6, 6])
    #expect(state[1].value.doubles == [-19.5, -31])

    let front = Model(Sequential([norm, linear]))
    // t = 0.5 − 20 and −1 − 30; Wᵀ·t = −19.5 − 93 and −39 − 124.
    let prepended = try front.folded().state
    #expect(prepended[0].value.doubles == [2, 4, 4.5, 6])
    #expect(prepended[1].value.doubles == [-112.5, -163])
  }

  @Test func reasonsAreGiven() throws {
    func reason(_ layers: [any Layer], sample: Shape? = nil) throws -> String {
      let folding = try trained(Sequential(layers)).fold(.partial, sample: sample)
      #expect(folding.foldedCount == 0)
      #expect((folding.model.root as? Sequential)?.layers.count == layers.count)
      return folding.entries.map(\.description).joined(separator: "; ")
    }
    #expect(
      try reason([Linear(6, 4), ReLU(), BatchNorm(4), Sigmoid(), Linear(4, 3)])
        == "layers.2: kept, right before it stands layers.1 (ReLU), not a linear layer, "
        + "and right after it stands layers.3 (Sigmoid), not a linear layer")
    #expect(
      try reason([Linear(6, 4), ReLU(), BatchNorm(4)])
        == "layers.2: kept, right before it stands layers.1 (ReLU), not a linear layer, "
        + "and no linear layer stands after it")
    #expect(
      try reason([BatchNorm(4)])
        == "layers.0: kept, no linear layer stands before it, and no linear layer stands after it")
    #expect(
      try reason([Linear(6, 4), BatchNorm(4, tracksRunningStatistics: false), ReLU()])
        == "layers.1: kept, it has no running statistics: evaluation, too, normalizes by the batch")
    #expect(
      try reason([Linear(6, 4), BatchNorm(5, axis: 1), ReLU()], sample: [5, 6]).hasPrefix(
        "layers.1: kept, its channels are on axis 1, those of the linear layer before it on the last"))
    #expect(
      try reason([BatchNorm(5, axis: 1), Linear(6, 4)], sample: [5, 6]).hasSuffix(
        "and its channels are on axis 1 of [2, 5, 6], the linear layer after it takes the last"))
    #expect(
      try reason([Linear(6, 4), Flatten(), BatchNorm(20)], sample: [5, 6]).hasPrefix(
        "layers.2: kept, it has 20 channels after flattening, the linear layer before it 4"))
    #expect(
      try reason([BatchNorm(2, axis: 0), Linear(6, 4)], sample: [6]).hasSuffix(
        "its channels are on the axis of the samples"))
    // Without a sample the axis of a matrix is not known to be its last one.
    #expect(
      try reason([Linear(6, 4), BatchNorm(4, axis: 1)]).contains(
        "its channels are on axis 1 and the rank of its input is not known: give the sample's shape"))
    let flat = try trained(Sequential([Flatten(), Linear(6, 4), BatchNorm(4, axis: 1)]))
    #expect(try flat.fold().foldedCount == 1)
  }

  @Test func allOrWhatIsPossible() throws {
    let layers: [any Layer] = [Linear(6, 4), BatchNorm(4), ReLU(), BatchNorm(4), Tanh(), Linear(4, 3)]
    let model = try trained(Sequential(layers))
    #expect(
      error { try model.folded() }
        == "[fold] layers.3: kept, right before it stands layers.2 (ReLU), not a linear layer, "
        + "and right after it stands layers.4 (Tanh), not a linear layer")
    let folding = try model.fold(.partial)
    #expect(
      folding.entries.map(\.description).first == "layers.1: folded into layers.0 before it")
    #expect(folding.entries.map(\.outcome).first == .intoPreceding("layers.0"))
    #expect(
      folding.model.runningStatistics.map(\.path)
        == ["runningMean", "runningVariance", "batchesTracked"].map { "layers.2.\($0)" })
    let x = (0..<12).map { Double($0) / 7 }
    let outputs = try [model, folding.model].map { try #require(try run($0, [2, 6], x).outputs["y"]) }
    #expect(departure(outputs[1], outputs[0]) < 1e-13)

    let plain = try trained(Sequential { Linear(6, 4) })
    #expect(error { try plain.folded() } == "[fold] expects a network with batch norm, got none")
    #expect(try plain.fold(.partial).entries.isEmpty)
  }

  /// The mean of 1e4 standard deviations that subtracting first would have kept exactly.
  @Test func inexactFoldingIsRefused() throws {
    for before in [false, true] {
      let model = try trained(
        before ? Sequential([Linear(6, 4), BatchNorm(4)]) : Sequential([BatchNorm(6), Linear(6, 4)]))
      let statistic = try #require(model.runningStatistics.first)
      statistic.value = try HostTensor(
        TensorType(statistic.shape, .float64), values: statistic.value?.doubles.map { 1e4 + $0 } ?? [])
      #expect(try model.fold().foldedCount == 1)
      try model.initialize(seed: 0, dtype: .float32)
      let message = error { try model.folded() }
      #expect(message.contains("folding would be inexact"), "\(message)")
      #expect(message.contains("f32 leaves a relative error of about"))
      let outcome = try model.fold(.partial, tolerance: .infinity).entries[0].outcome
      #expect(outcome == (before ? .intoPreceding("layers.0") : .intoFollowing("layers.1")))
    }
  }

  @Test func impossibleValuesAreRefused() throws {
    let (linear, norm) = (Linear(2, 2), BatchNorm(2))
    let model = Model(Sequential([linear, norm]))
    #expect(error { try model.folded() } == "[fold] expects a model with values, layers.0.weight has none")
    try model.initialize(seed: 1)
    for bad in [Float.nan, .infinity, -1] {
      norm.runningVariance?.value = try HostTensor([2], [1, bad])
      #expect(error { try model.folded() }.contains("its running statistics are not finite, or of negative variance"))
    }
    norm.runningVariance?.value = try HostTensor([2], [Float(1), 1])
    linear.weight.value = try HostTensor([2, 2], [Float](repeating: 1e30, count: 4))
    norm.scale?.value = try HostTensor([2], [Float(1e30), 1])
    #expect(error { try model.folded() }.contains("the folded weights are beyond the numbers of f32"))
  }

  @Test func layersOfOnesOwnAreRefused() throws {
    let own = Model(Residual(4, norm: true))
    try own.initialize(seed: 1)
    #expect(error { try own.folded() }.contains("expects a network of Keel's own layers that share no parameters"))
    let shared = Linear(4, 4)
    let twice = Model(Sequential([shared, shared, BatchNorm(4)]))
    try twice.initialize(seed: 1)
    #expect(error { try twice.folded() }.contains("that share no parameters"))
    let small = try trained(Sequential([Linear(6, 4), BatchNorm(4)]))
    #expect(
      error { try small.folded(sample: [7]) }
        == "[fold] the layers do not fit: [linear] layers.0: expects 6 features on the last axis, got [2, 7]")
  }

  @Test func typeAndFreezingAreKept() throws {
    let model = try trained(Sequential([Linear(6, 4, bias: false), BatchNorm(4), ReLU(), BatchNorm(4)]))
    try model.initialize(seed: 0, dtype: .float32)
    try model.freeze("layers.0")
    try model.freeze("layers.3")
    let folded = try model.fold(.partial).model
    #expect(folded.state.allSatisfy { $0.value.dtype == .float32 })
    #expect(folded.frozenVariables == folded.state.map(\.name))
    // Names of the original are its own again.
    #expect(model.parameters.map(\.path).last == "layers.3.shift")
    #expect(try folded.copyOfConfiguration() == folded.configuration)
  }

  /// A model with values as training leaves them: every statistic, scale and shift away from its start.
  private func trained(_ layer: any Layer, seed: UInt64 = 1) throws -> Model {
    let model = Model(layer)
    try model.initialize(seed: seed, dtype: .float64)
    var random = Philox(seed: seed, stream: 5)
    for parameter in model.parameters where parameter.shape.rank == 1 {
      let values = (0..<parameter.shape.count).map { _ in 0.8 + 0.3 * random.nextNormal() }
      parameter.value = try HostTensor(parameter.shape, values)
    }
    for statistic in model.runningStatistics {
      let isVariance = statistic.initialValue == 1
      let values = (0..<statistic.shape.count).map { _ in
        isVariance ? 0.05 + 2 * random.nextUniform() : 1.5 * random.nextNormal()
      }
      statistic.value = try HostTensor(statistic.shape, values)
    }
    return model
  }
}

extension Model {
  /// The description after a way through JSON.
  fileprivate func copyOfConfiguration() throws -> LayerConfiguration? {
    guard let configuration else { return nil }
    let data = try JSONEncoder().encode(configuration)
    return try JSONDecoder().decode(LayerConfiguration.self, from: data)
  }
}

private func error<Result>(_ body: () throws -> Result) -> String {
  do { return "no error, but \(try body())" } catch { return "\(error)" }
}

/// The largest distance, relative to the largest expected value; infinite for lists of different length.
private func departure(_ values: [Double], _ expected: [Double]) -> Double {
  guard values.count == expected.count, values.allSatisfy(\.isFinite) else { return .infinity }
  let scale = expected.map { abs($0) }.max() ?? 1
  return zip(values, expected).map { abs($0 - $1) }.max().map { $0 / scale } ?? 0
}
