import KeelCL
import KeelCore
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  @Suite struct FoldedPrediction {
    static let recipes: [Recipe] = [.mnistBN, .handsOn]

    /// Recipes after an epoch on the digits, and with statistics drawn at random.
    @Test(arguments: TrainingTests.devices, [DType.float32, .float64])
    func outputsAgree(device: Device, dtype: DType) throws {
      guard TrainingTests.has(device, dtype, "folded prediction") else { return }
      let digits = try Digits.load()
      let test = try digits.test.prefix(200)
      for recipe in Self.recipes {
        let network = recipe.network(inputs: 64, classes: 10)
        let trainer = try trainer(Model(network), on: device, dtype)
        try trainer.fit(digits.train, epochs: 1, batchSize: 32)
        for drawn in [false, true] {
          if drawn { try drawStatistics(trainer.model, dtype) }
          let folding = try trainer.model.fold(sample: test.featureShape)
          #expect(folding.entries.count == (recipe == .handsOn ? 3 : 2))
          #expect(folding.model.runningStatistics.isEmpty)
          let folded = try self.trainer(folding.model, on: device, dtype)
          let expected = try trainer.predict(test.features, scale: test.scale).doubles
          let outputs = try folded.predict(test.features, scale: test.scale).doubles
          let scale = expected.map { abs($0) }.max() ?? 1
          let departure = zip(outputs, expected).map { abs($0 - $1) }.max().map { $0 / scale } ?? .infinity
          #expect(outputs.count == expected.count)
          #expect(departure < (dtype == .float64 ? 1e-13 : 1e-6), "\(recipe), drawn \(drawn), on \(device.name)")
          print(
            "folded \(recipe.rawValue), \(dtype) on \(device.name)\(drawn ? ", statistics drawn" : ""): \(departure)")
          if !drawn {
            let (before, after) = (try trainer.evaluate(digits.test), try folded.evaluate(digits.test))
            #expect(before.accuracy == after.accuracy)
            #expect(abs(before.loss - after.loss) < 1e-5 * before.loss)
          }
        }
      }
    }

    private func trainer(_ model: Model, on device: Device, _ dtype: DType) throws -> Trainer {
      try Trainer(
        model, loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: device, dtype: dtype, seed: 6)
    }

    private func drawStatistics(_ model: Model, _ dtype: DType) throws {
      var random = Philox(seed: 8)
      for statistic in model.runningStatistics {
        let isVariance = statistic.initialValue == 1
        statistic.value = try HostTensor(
          TensorType(statistic.shape, dtype),
          values: (0..<statistic.shape.count).map { _ in
            isVariance ? 0.1 + 3 * random.nextUniform() : 1.5 * random.nextNormal()
          })
      }
      for parameter in model.parameters where parameter.path.hasSuffix(".scale") || parameter.path.hasSuffix(".shift") {
        parameter.value = try HostTensor(
          TensorType(parameter.shape, dtype),
          values: (0..<parameter.shape.count).map { _ in 0.7 + 0.4 * random.nextNormal() })
      }
    }
  }
}
