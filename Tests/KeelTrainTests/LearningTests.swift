import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import Testing

@testable import KeelTrain

/// The same linear layer twice.
private struct Twice: Layer {
  let inner: Linear
  func callAsFunction(_ x: Tensor) -> Tensor { inner(inner(x).tanh()) }
}

/// Two linear layers in its place.
private struct Pair: Layer {
  let first: Linear
  let second: Linear
  func callAsFunction(_ x: Tensor) -> Tensor { second(first(x).tanh()) }
}

private struct NormTwice: Layer {
  let norm = BatchNorm(8)
  func callAsFunction(_ x: Tensor) -> Tensor { norm(norm(x).relu()) }
}

extension TrainingTests {
  /// What can be trained besides the recipes, and what stays as it is.
  @Suite struct Learning {
    private func trainer(
      _ layer: any Layer, _ loss: Loss = .softmaxCrossEntropy,
      _ optimizer: any KeelNN.Optimizer = Adam(learningRate: 0.01), dtype: DType = .float32
    ) throws -> Trainer {
      try Trainer(layer, loss: loss, optimizer: optimizer, on: TrainingTests.device(), dtype: dtype, seed: 11)
    }

    /// Regression: y = Ax + b, without noise.
    private func linearMap(_ count: Int, outputs: Int = 2) throws -> Dataset {
      var random = Philox(seed: 21)
      let x = (0..<count * 5).map { _ in Float(random.nextNormal()) }
      let a = (0..<5 * outputs).map { _ in Float(random.nextNormal()) }
      let y = (0..<count * outputs).map { index in
        let (row, column) = (index / outputs, index % outputs)
        return (0..<5).reduce(Float(column) - 0.5) { $0 + x[row * 5 + $1] * a[$1 * outputs + column] }
      }
      return try Dataset(name: "map", features: HostTensor([count, 5], x), targets: HostTensor([count, outputs], y))
    }

    // MARK: Frozen parameters

    /// Weight decay moves whatever an optimizer reaches, even with a gradient of 0.
    @Test(arguments: [
      ["layers.0.weight"], ["layers.1.scale"], ["layers.1.shift", "layers.3.bias"],
      ["layers.1.scale", "layers.3.weight"],
      ["layers.0.weight", "layers.1.scale", "layers.1.shift"],
    ]) func frozenParametersStay(frozen: [String]) throws {
      for optimizer in [SGD(learningRate: 0.1, momentum: 0.9, weightDecay: 0.1), Adam(weightDecay: 0.1)]
        as [any KeelNN.Optimizer]
      {
        let trainer = try trainer(network(), .softmaxCrossEntropy, optimizer)
        for parameter in trainer.model.parameters {
          // Ones and zeros would be too easy to keep.
          parameter.value = try Initializer.normal(1).values(
            TensorType(parameter.shape), seed: 5, position: parameter.shape.count)
          parameter.isTrainable = !frozen.contains(parameter.path)
        }
        let before = trainer.model.bits
        try trainer.fit(clusters(64), epochs: 2, batchSize: 32)
        #expect(changed(before, trainer.model.bits) == before.keys.filter { !frozen.contains($0) }.sorted())
      }
    }

    /// Freezing after some training: the momentum that is there must not move the parameter either.
    @Test func freezingAndThawingBetweenFits() throws {
      let data = try clusters(64)
      let trainer = try trainer(network(), .softmaxCrossEntropy, SGD(learningRate: 0.1, momentum: 0.9))
      try trainer.fit(data, epochs: 1, batchSize: 32)
      let frozen = try #require(trainer.model.parameters.first { $0.path == "layers.1.scale" })
      frozen.isTrainable = false
      let before = trainer.model.bits
      try trainer.fit(data, epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits) == before.keys.filter { $0 != frozen.path }.sorted())
      frozen.isTrainable = true
      try trainer.fit(data, epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits).count == before.count)
    }

    /// The optimizer's launch is split around frozen parameters: the others move as if it were not.
    @Test func theOthersMoveAsBefore() throws {
      let data = try clusters(32)
      let (all, some) = (try trainer(network()), try trainer(network()))
      try all.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      let frozen = ["layers.1.scale", "layers.3.weight"]
      for parameter in some.model.parameters { parameter.isTrainable = !frozen.contains(parameter.path) }
      try some.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      #expect(all.step == 1 && changed(all.model.bits, some.model.bits) == frozen)
    }

    /// Running statistics are no parameters: with all of these frozen they still follow the data.
    @Test func allFrozen() throws {
      let trainer = try trainer(network())
      for parameter in trainer.model.parameters { parameter.isTrainable = false }
      let before = trainer.model.bits
      try trainer.fit(clusters(64), epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits) == networkStatistics)
    }

    // MARK: Layers

    /// A shared parameter moves by the sum of what two separate ones move by (plain gradient descent).
    @Test func sharedParameters() throws {
      guard TrainingTests.has(try TrainingTests.device(), .float64, "shared parameters") else { return }
      let data = try clusters(64, classes: 8)
      let once = SGD(learningRate: 0.1)
      let shared = try trainer(Twice(inner: Linear(8, 8)), .softmaxCrossEntropy, once, dtype: .float64)
      let layers = Pair(first: Linear(8, 8), second: Linear(8, 8))
      let pair = try trainer(layers, .softmaxCrossEntropy, once, dtype: .float64)
      #expect(shared.model.parameters.map(\.path) == ["inner.weight", "inner.bias"])
      let start = shared.model.state.map(\.value)
      for (index, parameter) in pair.model.parameters.enumerated() { parameter.value = start[index % 2] }
      try shared.fit(data, epochs: 1, batchSize: 64, shuffles: false)
      try pair.fit(data, epochs: 1, batchSize: 64, shuffles: false)
      for index in 0..<2 {
        func moved(_ model: Model, _ position: Int) throws -> [Double] {
          zip(try #require(model.parameters[position].value).doubles, start[index].doubles).map { $0 - $1 }
        }
        let sum = zip(try moved(pair.model, index), try moved(pair.model, index + 2)).map { $0 + $1 }
        #expect(departure(try moved(shared.model, index), sum) < 1e-12)
        #expect(sum.contains { abs($0) > 1e-3 })
      }
      let history = try shared.fit(data, epochs: 30, batchSize: 16)
      #expect(try #require(history.epochs.last).trainLoss < 0.7 * history.epochs[0].trainLoss)
    }

    @Test func aResidualLayerOfOnesOwn() throws {
      let layer = Sequential {
        Residual(8)
        Residual(8)
        Linear(8, 4)
      }
      let trainer = try trainer(layer)
      #expect(trainer.model.parameters.count == 12 && trainer.model.runningStatistics.count == 6)
      #expect(trainer.model.parameters[1].path == "layers.0.norm.scale")
      let before = trainer.model.bits
      let history = try trainer.fit(clusters(150), epochs: 8, batchSize: 32, validation: clusters(50))
      let (first, last) = (try #require(history.epochs.first), try #require(history.epochs.last))
      #expect(last.trainLoss < 0.3 * first.stepLosses[0] && (last.validation?.accuracy ?? 0) > 0.9)
      #expect(changed(before, trainer.model.bits).count == before.count, "everything moves")
    }

    @Test func batchNormCalledTwiceAStepIsRefused() throws {
      let trainer = try trainer(NormTwice())
      let error = message { try trainer.fit(clusters(32), epochs: 1, batchSize: 16) }
      #expect(
        error == "[runningStatistic] norm: expects one update of norm.runningMean a step, got a second: "
          + "the layer is called twice in training")
    }

    @Test(arguments: ["sigmoid", "tanh", "elu"]) func activations(name: String) throws {
      let activation: any Layer =
        switch name {
        case "sigmoid": Sigmoid()
        case "tanh": Tanh()
        default: ELU(alpha: 0.5)
        }
      let trainer = try trainer(
        Sequential {
          Linear(8, 16)
          activation
          Linear(16, 4)
        })
      let history = try trainer.fit(clusters(150), epochs: 10, batchSize: 32)
      let (first, last) = (try #require(history.epochs.first), try #require(history.epochs.last))
      #expect(last.trainLoss < 0.5 * first.stepLosses[0])
      #expect((last.trainAccuracy ?? 0) > (first.trainAccuracy ?? 1))
    }

    /// Images go through a normalization of their channels, on the axis where these are.
    @Test(arguments: [1, 3]) func batchNormOfImages(axis: Int) throws {
      var random = Philox(seed: 4)
      let shape = axis == 1 ? Shape([40, 3, 4, 5]) : Shape([40, 4, 5, 3])
      let labels = (0..<40).map { Int32($0 % 2) }
      // A class is told by the sign of the first channel.
      let pixels = (0..<shape.count).map { index -> Float in
        let channel = index / shape.strides[axis] % 3
        let side: Float = labels[index / shape.strides[0]] == 0 ? 1 : -1
        return Float(random.nextNormal()) + (channel == 0 ? side : 10)
      }
      let data = try Dataset(
        name: "images", features: HostTensor(shape, pixels), labels: HostTensor([40], labels), classCount: 2)
      let trainer = try trainer(
        Sequential {
          BatchNorm(3, axis: axis)
          Flatten()
          Linear(60, 2)
        })
      let history = try trainer.fit(data, epochs: 10, batchSize: 16)
      #expect(try #require(history.epochs.last).trainLoss < 0.5 * history.epochs[0].stepLosses[0])
      let means = try #require(trainer.model.runningStatistics.first?.value).doubles
      #expect(abs(means[0]) < 1 && means[1] > 5 && means[2] > 5)
    }

    // MARK: Regression

    @Test(arguments: [SGD(learningRate: 0.1), SGD(learningRate: 0.02, momentum: 0.9, nesterov: true)])
    func regressionConverges(optimizer: SGD) throws {
      let trainer = try trainer(Linear(5, 2), .meanSquaredError, optimizer)
      let data = try linearMap(200)
      let history = try trainer.fit(data, epochs: 30, batchSize: 32, validation: data)
      let last = try #require(history.epochs.last)
      #expect(history.epochs[0].stepLosses[0] > 0.5 && last.trainLoss < 1e-6)
      #expect(last.trainAccuracy == nil && last.validation?.accuracy == nil)
      // The mean over samples and outputs, on the host.
      let outputs = try trainer.predict(data.features).doubles
      let expected = zip(outputs, data.targets.doubles).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / 400
      let loss = try #require(last.validation).loss
      #expect(abs(loss - expected) < 1e-9 && loss < 1e-6)
    }

    @Test func theFirstLossOfARegression() throws {
      let trainer = try trainer(Linear(5, 2), .meanSquaredError, SGD(learningRate: 0))
      let data = try linearMap(50)
      let outputs = try trainer.predict(data.features).doubles
      let expected = zip(outputs, data.targets.doubles).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / 100
      let history = try trainer.fit(data, epochs: 1, batchSize: 32)
      #expect(abs(try #require(history.epochs.first).trainLoss / expected - 1) < 1e-6)
      #expect(abs(try trainer.evaluate(data, batchSize: 7).loss / expected - 1) < 1e-6)
    }
  }
}
