import Foundation
import KeelCL
import KeelCore
import KeelNN
import KeelRuntime
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// Steps whose loss is infinite or not a number.
  @Suite struct NonFinite {
    private func trainer(_ network: Sequential, on device: Device) throws -> Trainer {
      // As training runs by default, whatever the environment says.
      var options = Executable.Options()
      options.merges = true
      return try Trainer(
        network, loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: device, seed: 3, options: options)
    }

    /// 96 samples; `value` in place of a feature of sample 40, which is in the second batch of 32.
    private func broken(_ value: Float) throws -> Dataset {
      var values = try clusters(96).features.floats
      values[40 * 8 + 3] = value
      return try Dataset(
        name: "broken", features: HostTensor([96, 8], values), labels: clusters(96).targets, classCount: 4)
    }

    /// The same without the second batch.
    private func sound() throws -> Dataset {
      let data = try clusters(96)
      let kept = data.features.floats[..<(32 * 8)] + data.features.floats[(64 * 8)...]
      let labels = data.targets.doubles[..<32] + data.targets.doubles[64...]
      return try Dataset(
        name: "sound", features: HostTensor([64, 8], Array(kept)), labels: HostTensor([64], labels.map { Int32($0) }),
        classCount: 4)
    }

    @Test(arguments: TrainingTests.devices, [false, true])
    func stopLeavesTheModelAsItWasBeforeTheStep(device: Device, norm: Bool) throws {
      for value in [Float.nan, .infinity] {
        let trainers = try (0..<2).map { _ in try trainer(network(norm: norm), on: device) }
        do {
          try trainers[0].fit(broken(value), epochs: 3, batchSize: 32, shuffles: false)
          Issue.record("no error")
        } catch let error as NonFiniteLoss {
          #expect(error.epoch == 1 && error.step == 2 && !error.loss.isFinite && error.sample == 40)
          #expect(error.history.epochs.isEmpty)
          #expect("\(error)".contains("[train] epoch 1, step 2: the loss is "))
          #expect("\(error)".contains("sample 40 of the data has a value that is not finite"))
        }
        try trainers[1].fit(clusters(96).prefix(32), epochs: 1, batchSize: 32, shuffles: false)
        #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
        #expect(changed(trainers[0].model.bits, trainers[1].model.bits).isEmpty)
        #expect(trainers[0].step == 1)
        // And training may go on.
        #expect(try trainers[0].fit(clusters(64), epochs: 1, batchSize: 32).epochs[0].trainLoss.isFinite)
      }
    }

    @Test func epochsBeforeTheErrorAreNotLost() throws {
      let trainer = try trainer(network(), on: TrainingTests.device())
      let error = #expect(throws: NonFiniteLoss.self) {
        // The network is sound and so are the data; the steps are too long.
        trainer.learningRate = 1e3
        try trainer.fit(clusters(64), epochs: 1, batchSize: 32)
        trainer.learningRate = .greatestFiniteMagnitude
        try trainer.fit(clusters(64), epochs: 9, batchSize: 32)
      }
      #expect(error?.sample == nil)
      #expect(error?.description.contains("the samples of its batch are finite") == true)
    }

    @Test(arguments: TrainingTests.devices, [false, true])
    func skipLeavesTheStepOut(device: Device, norm: Bool) throws {
      let trainers = try (0..<2).map { _ in try trainer(network(norm: norm), on: device) }
      var observed: [Int] = []
      let history = try trainers[0].fit(
        broken(.nan), epochs: 2, batchSize: 32, shuffles: false, onNonFiniteLoss: .skip
      ) { event in
        if case .epoch(let epoch) = event { observed.append(epoch.skippedSteps) }
        return true
      }
      let expected = try trainers[1].fit(sound(), epochs: 2, batchSize: 32, shuffles: false)
      #expect(observed == [1, 1] && history.skippedSteps == 2 && history.steps == 6)
      #expect(history.epochs.map(\.trainLoss) == expected.epochs.map(\.trainLoss))
      #expect(history.epochs.map(\.trainAccuracy) == expected.epochs.map(\.trainAccuracy))
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
      #expect(trainers[0].step == 4)
      if norm {
        let counts = trainers[0].model.runningStatistics.last?.value?.doubles
        #expect(counts == [Double](repeating: 4, count: 16))
      }
    }

    @Test func everyStepSkippedIsNoLoss() throws {
      let data = try Dataset(
        name: "nothing", features: HostTensor([8, 8], [Float](repeating: .nan, count: 64)),
        labels: clusters(8).targets, classCount: 4)
      let trainer = try trainer(network(), on: TrainingTests.device())
      let before = trainer.model.bits
      let epoch = try trainer.fit(data, epochs: 1, batchSize: 4, onNonFiniteLoss: .skip).epochs[0]
      #expect(epoch.skippedSteps == 2 && epoch.trainLoss.isNaN && epoch.trainAccuracy == nil)
      #expect(changed(before, trainer.model.bits).isEmpty)
    }

    /// Running statistics of a first batch norm with cumulative momentum are those that the average of batches gives.
    @Test(arguments: TrainingTests.devices, [DType.float32, .float64])
    func cumulativeMomentum(device: Device, dtype: DType) throws {
      guard TrainingTests.has(device, dtype, "cumulative momentum") else { return }
      let norm = BatchNorm(8, momentum: .cumulative)
      let trainer = try Trainer(
        Sequential([norm, Linear(8, 4)]), loss: .softmaxCrossEntropy, optimizer: Adam(), on: device, dtype: dtype)
      let data = try clusters(100)
      try trainer.fit(data, epochs: 3, batchSize: 32, shuffles: false)
      let (mean, variance) = (norm.runningMean?.value?.doubles ?? [], norm.runningVariance?.value?.doubles ?? [])
      #expect(norm.batchesTracked?.value?.doubles == [Double](repeating: 12, count: 8))
      let average = try trainer.recalibrate(on: data, mode: .averageOfBatches, batchSize: 32, shuffles: false)
      let tolerance = dtype == .float64 ? 1e-14 : 1e-6
      #expect(departure(mean, average.layers[0].mean) < tolerance)
      #expect(departure(variance, average.layers[0].variance) < tolerance)
      #expect(norm.batchesTracked?.value?.doubles == [Double](repeating: 4, count: 8))
    }
  }
}
