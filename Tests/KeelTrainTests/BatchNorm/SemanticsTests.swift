import KeelCL
import KeelCore
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// Batch norm as its users see it.
  @Suite struct BatchNormSemantics {
    @Test(arguments: TrainingTests.devices)
    func oneImageIsEvaluatedAlone(device: Device) throws {
      let digits = try Digits.load()
      let trainer = try Trainer(
        Recipe.mnistBN.network(inputs: 64, classes: 10), loss: .softmaxCrossEntropy, optimizer: Adam(), on: device)
      try trainer.fit(digits.train.prefix(320), epochs: 1, batchSize: 32)
      let before = trainer.model.bits
      let all = try trainer.predict(digits.test.features.rows(0..<40), scale: digits.test.scale).doubles
      let first = try trainer.predict(digits.test.features.rows(0..<1), scale: digits.test.scale).doubles
      #expect(departure(first, Array(all.prefix(10))) < 1e-6)
      #expect(try trainer.evaluate(digits.test.rows(3..<4)).count == 1)
      #expect(changed(before, trainer.model.bits).isEmpty)
      #expect(changed(before, try trainer.deviceBits()).isEmpty)
    }

    @Test func oneValueAChannelIsNoBatch() throws {
      let data = try clusters(8)
      for (layers, name) in [
        ([Linear(8, 16), BatchNorm(16), Linear(16, 4)], "layers.1"), ([BatchNorm(8), Linear(8, 4)], "layers.0"),
      ] as [([any Layer], String)] {
        let trainer = try Trainer(
          Sequential(layers), loss: .softmaxCrossEntropy, optimizer: Adam(), on: TrainingTests.device())
        let before = trainer.model.bits
        let text = message { try trainer.fit(data, epochs: 1, batchSize: 1) }
        #expect(text.contains("\(name): training expects more than one value per channel, got [1, "), "\(text)")
        #expect(changed(before, trainer.model.bits).isEmpty)
      }
      // Rows of several values a channel are a batch, however few there are.
      let rows = try Dataset(
        name: "rows", features: data.features.reshaped(to: [2, 4, 8]),
        targets: HostTensor([2, 4, 8], data.features.floats))
      let trainer = try Trainer(
        Sequential([BatchNorm(8), Linear(8, 8)]), loss: .meanSquaredError, optimizer: Adam(), on: TrainingTests.device()
      )
      #expect(try trainer.fit(rows, epochs: 1, batchSize: 1).steps == 2)
    }

    /// γ = √(σ² + ε) and β = μ undo the normalization: training and evaluation give the input back.
    @Test(arguments: TrainingTests.devices, [DType.float32, .float64])
    func theIdentityCanBeLearnt(device: Device, dtype: DType) throws {
      guard TrainingTests.has(device, dtype, "the identity") else { return }
      var random = Philox(seed: 3)
      let x = (0..<64 * 6).map { index -> Float in
        let channel = Double(index % 6)
        return Float(2 * channel - 5 + (channel + 1) * random.nextNormal())
      }
      let data = try Dataset(name: "x", features: HostTensor([64, 6], x), targets: HostTensor([64, 6], x))
      let norm = BatchNorm(6, runningVariance: .biased)
      let trainer = try Trainer(
        norm, loss: .meanSquaredError, optimizer: SGD(learningRate: 0), on: device, dtype: dtype)
      let statistics = try trainer.recalibrate(on: data, batchSize: 64).layers[0]
      let type = TensorType([6], dtype)
      norm.scale?.value = try HostTensor(type, values: statistics.variance.map { ($0 + 1e-5).squareRoot() })
      norm.shift?.value = try HostTensor(type, values: statistics.mean)

      let tolerance = dtype == .float64 ? 1e-13 : 5e-7
      let evaluated = departure(try trainer.predict(data.features).doubles, x.map { Double($0) })
      #expect(evaluated < tolerance)
      // In training the loss is the mean squared distance from the input.
      let loss = try #require(trainer.fit(data, epochs: 1, batchSize: 64).epochs.first).trainLoss
      let size = x.map { Double(abs($0)) }.max() ?? 1
      #expect(loss.squareRoot() < tolerance * size)
      print(
        "the identity, \(dtype) on \(device.name): departs by \(evaluated) in evaluation, "
          + "\(loss.squareRoot() / size) in training")
    }

    @Test(arguments: TrainingTests.devices)
    func everyPlaceTrains(device: Device) throws {
      let data = try clusters(256)
      for bias in [false, true] {
        let networks: [(String, [any Layer])] = [
          ("before the activation", [Linear(8, 16, bias: bias), BatchNorm(16), ReLU(), Linear(16, 4)]),
          ("after the activation", [Linear(8, 16, bias: bias), ReLU(), BatchNorm(16), Linear(16, 4)]),
          ("in front", [BatchNorm(8), Linear(8, 16, bias: bias), ReLU(), Linear(16, 4)]),
          ("at the end", [Linear(8, 16, bias: bias), ReLU(), Linear(16, 4), BatchNorm(4)]),
        ]
        for (place, layers) in networks {
          let trainer = try Trainer(
            Sequential(layers), loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0.1), on: device, seed: 3)
          let history = try trainer.fit(data, epochs: 6, batchSize: 32)
          let (first, last) = (try #require(history.epochs.first), try #require(history.epochs.last))
          #expect(last.trainLoss < 0.6 * first.trainLoss, "\(place), bias \(bias), on \(device.name)")
          #expect(try trainer.evaluate(data).loss < first.trainLoss, "\(place), bias \(bias), on \(device.name)")
        }
      }
    }
  }
}
