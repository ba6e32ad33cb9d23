import Foundation
import KeelCL
import KeelCore
import KeelNN
import Testing

@testable import KeelTrain

@Suite struct RecipeTests {
  @Test func parameterCounts() throws {
    func counts(_ recipe: Recipe) throws -> [Int] {
      let summary = try Model(recipe.network(inputs: 784, classes: 10)).summary(input: [28, 28])
      return [summary.totalCount, summary.nonTrainableCount]
    }
    #expect(try counts(.handsOn) == [270_946, 2_368])
    #expect(try counts(.mnistBN) == [26_698, 128])
    #expect(try counts(.mnistPlain) == [26_506, 0])
    // The book's own network keeps the biases that batch norm subtracts again.
    let book = Sequential {
      Flatten()
      BatchNorm(784)
      Linear(784, 300)
      BatchNorm(300)
      ELU()
      Linear(300, 100)
      BatchNorm(100)
      ELU()
      Linear(100, 10)
    }
    let summary = try Model(book).summary(input: [28, 28])
    #expect(summary.totalCount == 271_346 && summary.nonTrainableCount == 2_368)
  }

  /// The layers that the recorded runs were made with, and their counts as PyTorch gives them.
  @Test(arguments: RecordedRun.names) func areThoseOfTheRecordedRuns(name: String) throws {
    let run = try RecordedRun(reading: name)
    #expect(name.hasPrefix(run.recipe.rawValue))
    let layers = run.recipe.network(inputs: 64, classes: 10).layers
    #expect(layers.compactMap(\.configuration).compactMap(text) == run.layers)
    for counts in run.parameters {
      let summary = try Model(run.recipe.network(inputs: counts.inputs, classes: 10)).summary(input: [counts.inputs])
      #expect(summary.totalCount == counts.total && summary.nonTrainableCount == counts.nonTrainable)
    }
    for case .batchNorm(let options) in layers.compactMap(\.configuration) {
      #expect(options.epsilon == 1e-5 && options.momentum == .new(0.1) && options.runningVariance == .unbiased)
    }
  }

  private func text(_ layer: LayerConfiguration) -> String? {
    switch layer {
    case .linear(let options): "Linear(\(options.inputs), \(options.outputs)\(options.bias ? "" : ", bias: false"))"
    case .batchNorm(let options): "BatchNorm(\(options.channels))"
    case .relu: "ReLU()"
    case .elu(alpha: 1): "ELU()"
    case .flatten: nil
    default: "\(layer)"
    }
  }

  @Test func namesAndSettings() {
    #expect(Recipe.allCases.map(\.rawValue) == ["mnist-bn", "mnist-plain", "hands-on"])
    for recipe in Recipe.allCases {
      #expect(recipe.epochs == 10 && recipe.batchSize == 32 && recipe.optimizer == Adam(learningRate: 0.01))
    }
    // Batch norm is before the activation, no bias where it follows, He normal.
    let layers = Recipe.handsOn.network(inputs: 4, classes: 2).layers.compactMap(\.configuration)
    guard case .linear(let first) = layers[2] else {
      Issue.record("expected a linear layer, got \(layers[2])")
      return
    }
    #expect(first.weight == .heNormal && !first.bias)
  }
}

private let realFiles = ProcessInfo.processInfo.environment["KEEL_DATA"].flatMap { $0.isEmpty ? nil : $0 }

extension TrainingTests {
  @Suite struct RealData {
    /// The main job, one epoch of it: PyTorch has 0.95 to 0.96 after the first.
    @Test(.enabled(if: realFiles != nil, "KEEL_DATA names no folder: MNIST is not trained on"))
    func mnistInOneEpoch() throws {
      let mnist = try MNIST.load(directory: realFiles)
      let trainer = try Trainer(
        Recipe.mnistBN.network(inputs: 784, classes: 10), loss: .softmaxCrossEntropy,
        optimizer: Recipe.mnistBN.optimizer, on: TrainingTests.device(), seed: 1)
      let epoch = try #require(
        trainer.fit(mnist.train, epochs: 1, batchSize: 32, validation: mnist.test, seed: 1).epochs.first)
      let test = try #require(epoch.validation)
      print("MNIST, mnist-bn, one epoch: \(test.accuracy ?? 0), \(epoch.trainSeconds) s for \(epoch.steps) steps")
      #expect(epoch.steps == 1875 && test.count == 10_000)
      #expect((test.accuracy ?? 0) > 0.93)
    }

    /// The default job of the command line on what is embedded.
    @Test func digitsInTenEpochs() throws {
      let digits = try Digits.load()
      let trainer = try Trainer(
        Recipe.mnistBN.network(inputs: 64, classes: 10), loss: .softmaxCrossEntropy,
        optimizer: Recipe.mnistBN.optimizer, on: TrainingTests.device(), seed: 1)
      let history = try trainer.fit(digits.train, epochs: 10, batchSize: 32, validation: digits.test, seed: 1)
      let last = try #require(history.epochs.last)
      #expect((last.trainAccuracy ?? 0) > 0.98 && (last.validation?.accuracy ?? 0) > 0.9)
    }
  }
}
