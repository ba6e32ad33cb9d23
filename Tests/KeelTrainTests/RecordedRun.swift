import Foundation
import KeelCore
import KeelNN
import Testing

@testable import KeelTrain

/// One file of `Fixtures/`: 20 steps in PyTorch. What the keys mean stands in `Fixtures/README.md`.
struct RecordedRun: Decodable {
  struct Optimizer: Decodable {
    var name: String
    var learningRate: Double
    var momentum: Double?
    var beta1: Double?
    var beta2: Double?
    var epsilon: Double?
  }
  struct Counts: Decodable {
    var inputs: Int
    var total: Int
    var nonTrainable: Int
  }
  struct Source: Decodable {
    var trainingRows: Int
    var pixelSumOfUsedRows: Int
    var firstLabels: [Int]
  }
  struct Weights: Decodable { var firstThreeOfEachLayer: [[Double]] }
  struct Statistics: Decodable {
    var runningMean: [Double]
    var runningVariance: [Double]
  }
  struct TestResult: Decodable {
    var loss: Double
    var correct: Int
    var rows: Int
  }
  struct Results: Decodable {
    var losses: [Double]
    var batchNorms: [Statistics]
    var lastBias: [Double]
    var lastWeightFirstRow: [Double]
    var firstScale: [Double]
    var evaluation: TestResult
  }

  var recipe: Recipe
  var layers: [String]
  var parameters: [Counts]
  var optimizer: Optimizer
  var batchSize: Int
  var steps: Int
  var data: Source
  var initialWeights: Weights
  var notDetermined: [String]
  var float64: Results
  var float32: Results

  static let names = ["mnist-bn", "mnist-plain", "hands-on"].flatMap { ["\($0)-sgd", "\($0)-adam"] }

  init(reading name: String) throws {
    let folder = try #require(Bundle.module.url(forResource: "Fixtures", withExtension: nil))
    let data = try Data(contentsOf: folder.appendingPathComponent("\(name).json"))
    self = try JSONDecoder().decode(RecordedRun.self, from: data)
  }

  func makeOptimizer() throws -> any KeelNN.Optimizer {
    switch optimizer.name {
    case "sgd": return SGD(learningRate: optimizer.learningRate, momentum: try #require(optimizer.momentum))
    case "adam":
      return Adam(
        learningRate: optimizer.learningRate, beta1: try #require(optimizer.beta1),
        beta2: try #require(optimizer.beta2), epsilon: try #require(optimizer.epsilon))
    default: throw TrainingError("no optimizer \(optimizer.name)")
    }
  }

  /// The digits, when they are the rows that the run was recorded with.
  func digits() throws -> DatasetPair {
    let digits = try Digits.load()
    let used = try digits.train.prefix(batchSize * steps)
    try #require(digits.train.count == data.trainingRows)
    try #require(used.features.bytes.reduce(0) { $0 + Int($1) } == data.pixelSumOfUsedRows)
    try #require(used.targets.doubles.prefix(data.firstLabels.count).map { Int($0) } == data.firstLabels)
    return try DatasetPair(train: used, test: digits.test)
  }

  /// The recipe's network with the initial values of the run.
  func model(_ dtype: DType) throws -> Model {
    let model = Model(recipe.network(inputs: 64, classes: 10))
    let weights = model.parameters.filter { $0.shape.rank == 2 }
    try #require(weights.count == initialWeights.firstThreeOfEachLayer.count)
    for (layer, weight) in weights.enumerated() {
      let values = Self.initialWeight(weight.shape, layer: layer)
      try #require(values.prefix(3).map { $0 } == initialWeights.firstThreeOfEachLayer[layer].map { Float($0) })
      weight.value = try HostTensor(weight.shape, values).converted(to: dtype)
    }
    for bias in model.parameters where bias.path.hasSuffix(".bias") {
      bias.value = HostTensor(zeros: TensorType(bias.shape, dtype))
    }
    // Scales of 1, shifts of 0 and statistics of 0 and 1 are every batch norm's own first values.
    return model
  }

  /// `initialWeights.rule`.
  static func initialWeight(_ shape: Shape, layer: Int) -> [Float] {
    (0..<shape.count).map { i in
      let x = sin(12.9898 * Double(i + 1) + 78.233 * Double(layer + 1)) * 43758.5453
      return Float((2 / Double(shape[0])).squareRoot() * 3.0.squareRoot() * (2 * (x - x.rounded(.down)) - 1))
    }
  }
}

extension RecordedRun.Results {
  /// Everything but the number of right answers, by the keys of the file.
  var quantities: [(key: String, values: [Double])] {
    var all = [("losses", losses)]
    for (index, norm) in batchNorms.enumerated() {
      all.append(("batchNorms[\(index)].runningMean", norm.runningMean))
      all.append(("batchNorms[\(index)].runningVariance", norm.runningVariance))
    }
    return all + [
      ("lastBias", lastBias), ("lastWeightFirstRow", lastWeightFirstRow), ("firstScale", firstScale),
      ("evaluation", [evaluation.loss]),
    ]
  }

  /// The same figures of a model that Keel trained.
  init(_ model: Model, losses: [Double], evaluation: Evaluation) throws {
    let values = Dictionary(uniqueKeysWithValues: model.state.map { ($0.name, $0.value.doubles) })
    func value(_ path: String?) throws -> [Double] { try #require(path.flatMap { values[$0] }) }
    func statistics(_ name: String) throws -> [[Double]] {
      try model.runningStatistics.map(\.path).filter { $0.hasSuffix(name) }.map(value)
    }
    let lastWeight = try #require(model.parameters.last { $0.path.hasSuffix(".weight") })
    self.losses = losses
    batchNorms = zip(try statistics(".runningMean"), try statistics(".runningVariance")).map {
      RecordedRun.Statistics(runningMean: $0, runningVariance: $1)
    }
    lastBias = try value(model.parameters.last { $0.path.hasSuffix(".bias") }?.path)
    lastWeightFirstRow = Array(try value(lastWeight.path).prefix(lastWeight.shape[1]))
    firstScale = try model.parameters.first { $0.path.hasSuffix(".scale") }.map { try value($0.path) } ?? []
    let accuracy = try #require(evaluation.accuracy)
    self.evaluation = RecordedRun.TestResult(
      loss: evaluation.loss, correct: Int((accuracy * Double(evaluation.count)).rounded()), rows: evaluation.count)
  }
}
