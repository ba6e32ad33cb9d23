import KeelCL
import KeelCore
import KeelNN
import KeelRuntime
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// The same bits from the same seed, the same numbers with and without fusion, two calls to `fit` as one.
  @Suite struct Reproducibility {
    static let optimizers: [any KeelNN.Optimizer] = [
      SGD(learningRate: 0.05), SGD(learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3),
      Adam(learningRate: 0.01, weightDecay: 1e-3),
    ]

    private func trainer(_ optimizer: any KeelNN.Optimizer, seed: UInt64 = 7) throws -> Trainer {
      try Trainer(
        network(), loss: .softmaxCrossEntropy, optimizer: optimizer, on: TrainingTests.device(), seed: seed)
    }

    @Test(arguments: TrainingTests.devices, ["mnist-bn-adam", "mnist-plain-sgd", "hands-on-sgd"])
    func fusedAsUnfused(device: Device, name: String) throws {
      let run = try RecordedRun(reading: name)
      let digits = try run.digits()
      func train(_ fuses: Bool, _ dtype: DType) throws -> (quantities: [[Double]], launches: Int) {
        var options = Executable.Options()
        options.fuses = fuses
        let model = try run.model(dtype)
        let trainer = try Trainer(
          model, loss: .softmaxCrossEntropy, optimizer: run.makeOptimizer(), on: device, dtype: dtype, options: options)
        let history = try trainer.fit(digits.train, epochs: 1, batchSize: run.batchSize, shuffles: false)
        let losses = try #require(history.epochs.first).stepLosses
        #expect(losses.count == run.steps)
        let shape = StepShape(
          rows: run.batchSize, features: digits.train.features.type, targets: digits.train.targets.type,
          scale: digits.train.scale, steps: run.steps)
        let graph = try model.trainingGraph(
          shape, loss: trainer.loss, rule: trainer.optimizer.rule, dtype: dtype, onNonFiniteLoss: .stop)
        let executable = try Executable(graph, variables: trainer.variables, options: options)
        return ([losses] + model.state.map(\.value.doubles), executable.launches.count)
      }
      // Programs take long to build: in single precision, where rounding blurs, one network is enough.
      let types = [(DType.float64, 1e-12)] + (name == "mnist-bn-adam" ? [(DType.float32, 1e-5)] : [])
      for (dtype, tolerance) in types where TrainingTests.has(device, dtype, "fused against unfused \(name)") {
        let (fused, unfused) = (try train(true, dtype), try train(false, dtype))
        for (a, b) in zip(fused.quantities, unfused.quantities) { #expect(departure(a, b) < tolerance) }
        // Otherwise both would have been the same programs.
        #expect(fused.launches < unfused.launches)
      }
    }

    @Test(arguments: optimizers.indices) func sameSeedSameBits(index: Int) throws {
      func train(_ seed: UInt64, _ order: UInt64) throws -> (History.Epoch, [String: [UInt8]]) {
        let trainer = try trainer(Self.optimizers[index], seed: seed)
        let history = try trainer.fit(clusters(150), epochs: 2, batchSize: 32, seed: order)
        return (try #require(history.epochs.last), try trainer.deviceBits())
      }
      let first = try train(7, 1)
      let again = try train(7, 1)
      #expect(first.0.stepLosses == again.0.stepLosses)
      #expect(first.0.trainLoss == again.0.trainLoss && first.0.trainAccuracy == again.0.trainAccuracy)
      #expect(changed(first.1, again.1) == [])
      // But the count of batches.
      let values = first.1.keys.filter { !$0.hasSuffix("batchesTracked") }.sorted()
      let otherValues = try train(8, 1)
      #expect(first.0.stepLosses != otherValues.0.stepLosses)
      #expect(changed(first.1, otherValues.1) == values)
      let otherOrder = try train(7, 2)
      #expect(first.0.stepLosses != otherOrder.0.stepLosses)
      #expect(changed(first.1, otherOrder.1) == values)
    }

    @Test func everyEpochHasItsOwnOrder() throws {
      // Nothing is learnt, so equal step losses would mean equal batches.
      let trainer = try trainer(SGD(learningRate: 0))
      let history = try trainer.fit(clusters(150), epochs: 3, batchSize: 32, seed: 3)
      let losses = history.epochs.map(\.stepLosses)
      #expect(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2])
      // All samples are seen in each.
      let plain = try Trainer(
        network(norm: false), loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0), on: TrainingTests.device())
      let all = try plain.evaluate(clusters(150))
      for epoch in try plain.fit(clusters(150), epochs: 3, batchSize: 32, seed: 3).epochs {
        #expect(abs(epoch.trainLoss - all.loss) < 1e-5 && epoch.trainAccuracy == all.accuracy)
      }
    }

    /// Moments, momentum, step counter, running statistics and the order of samples go on where they were.
    @Test(arguments: optimizers.indices, [false, true]) func fitTwiceIsFitLonger(index: Int, shuffles: Bool) throws {
      let data = try clusters(150)
      let once = try trainer(Self.optimizers[index])
      let history = try once.fit(data, epochs: 3, batchSize: 32, seed: 5, shuffles: shuffles)
      let twice = try trainer(Self.optimizers[index])
      var epochs = try twice.fit(data, epochs: 1, batchSize: 32, seed: 5, shuffles: shuffles).epochs
      #expect(twice.step == 5)
      // What lies between must not matter: another data set on the device, an evaluation.
      _ = try twice.evaluate(clusters(40, seed: 9))
      epochs += try twice.fit(data, epochs: 2, batchSize: 32, seed: 5, shuffles: shuffles).epochs
      #expect(twice.step == 15 && once.step == 15)
      #expect(epochs.map(\.stepLosses) == history.epochs.map(\.stepLosses))
      #expect(changed(once.model.bits, twice.model.bits) == [])
      #expect(changed(try once.deviceBits(), try twice.deviceBits()) == [])
    }

    /// Three epochs over 32 samples are one over the same samples three times: steps are counted through.
    @Test(arguments: optimizers.indices) func epochsAreOneRun(index: Int) throws {
      let data = try clusters(32)
      let (features, labels) = (data.features.floats, data.targets.doubles.map { Int32($0) })
      let tripled = try Dataset(
        name: "tripled", features: HostTensor([96, 8], features + features + features),
        labels: HostTensor([96], labels + labels + labels), classCount: 4)
      let (epochs, rows) = (try trainer(Self.optimizers[index]), try trainer(Self.optimizers[index]))
      let losses = try epochs.fit(data, epochs: 3, batchSize: 32, shuffles: false).epochs.flatMap(\.stepLosses)
      #expect(try rows.fit(tripled, epochs: 1, batchSize: 32, shuffles: false).epochs.map(\.stepLosses) == [losses])
      #expect(changed(try epochs.deviceBits(), try rows.deviceBits()) == [])
    }

    @Test func theLearningRateMayChangeBetweenFits() throws {
      let data = try clusters(64)
      let trainer = try trainer(SGD(learningRate: 0.1))
      try trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      let other = try Trainer(
        trainer.model.copy(network()), loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0.01),
        on: TrainingTests.device())
      trainer.learningRate = 0.01
      let losses = try trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false).epochs.map(\.stepLosses)
      #expect(try other.fit(data, epochs: 1, batchSize: 32, shuffles: false).epochs.map(\.stepLosses) == losses)
      #expect(changed(trainer.model.bits, other.model.bits) == [])

      trainer.learningRate = 0
      let before = trainer.model.bits
      try trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      #expect(changed(before, trainer.model.bits) == networkStatistics)

      trainer.learningRate = .nan
      #expect(
        message { try trainer.fit(data, epochs: 1, batchSize: 32) } == "[sgd] expects learningRate ≥ 0, got nan")
    }

    /// Values that are set on the model between two fits are those that training goes on with.
    @Test func valuesOfTheModelAreTaken() throws {
      let data = try clusters(64)
      let trainer = try trainer(SGD(learningRate: 0.1))
      let start = trainer.model.state
      let first = try trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      let end = trainer.model.bits
      try trainer.model.load(Dictionary(uniqueKeysWithValues: start.map { ($0.name, $0.value) }))
      let second = try trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false)
      #expect(first.epochs.map(\.stepLosses) == second.epochs.map(\.stepLosses))
      #expect(changed(end, trainer.model.bits) == [])
    }
  }
}
