import KeelCL
import KeelNN
import Testing

@testable import KeelCore
@testable import KeelRuntime
@testable import KeelTrain

extension TrainingTests {
  /// The same bits, whether the device holds a data set or windows of it.
  @Suite struct Streaming {
    private func trainer(
      windowBytes: Int, on device: Device, _ network: Sequential = network(), loss: Loss = .softmaxCrossEntropy,
      merges: Bool = false
    ) throws -> Trainer {
      var options = Executable.Options()
      options.merges = merges
      let trainer = try Trainer(
        network, loss: loss, optimizer: Adam(learningRate: 0.01), on: device, seed: 3, options: options)
      trainer.windowBytes = windowBytes
      return trainer
    }

    /// Bytes of a sample of `clusters`: eight features and a label.
    static let sampleBytes = 36

    /// Samples, batch, samples of a window: whole ones, short last windows and batches, a window that has the short batch
    /// alone, one of the 64 steps after which training waits, and single batches.
    static let cuts = [
      (96, 16, 32), (90, 16, 32), (97, 16, 32), (70, 8, 10), (50, 16, 16), (1000, 4, 270), (33, 1, 5),
    ]

    @Test(arguments: TrainingTests.devices, cuts.indices)
    func trainingIsTheSame(device: Device, index: Int) throws {
      let (count, batchSize, rows) = Self.cuts[index]
      let (data, test) = (try clusters(count), try clusters(61, seed: 5))
      // A batch of one is too few for batch norm.
      let norm = count % batchSize != 1 && batchSize > 1
      for shuffles in [true, false] {
        let trainers = try (0..<2).map { _ in
          try trainer(windowBytes: rows * Self.sampleBytes, on: device, network(norm: norm), merges: index < 2)
        }
        let histories = try zip(trainers, [DataPlacement.resident, .streamed]).map { trainer, placement in
          try trainer.fit(
            data, epochs: 3, batchSize: batchSize, validation: test, seed: 7, shuffles: shuffles, placement: placement)
        }
        #expect(trainers.map { $0.isStreamed(.train) } == [false, true])
        #expect(histories[0].epochs.map(\.stepLosses) == histories[1].epochs.map(\.stepLosses))
        #expect(histories[0].epochs.map(\.trainLoss) == histories[1].epochs.map(\.trainLoss))
        #expect(histories[0].epochs.map(\.trainAccuracy) == histories[1].epochs.map(\.trainAccuracy))
        #expect(histories[0].epochs.map(\.validation) == histories[1].epochs.map(\.validation))
        #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
        #expect(changed(trainers[0].model.bits, trainers[1].model.bits).isEmpty)
        #expect(trainers[0].step == trainers[1].step && trainers[1].step == histories[1].steps)
      }
    }

    /// An order that is dealt when it is drawn, and not copied on its way to the device, of epochs that run ahead.
    @Test func trainingIsTheSameWithALongOrder() throws {
      let data = try clusters(max(Philox.shuffledWhole, SampleFeed.longOrder) + 1000)
      let batchSize = 1 << 16
      let trainers = try (0..<2).map { _ in
        try trainer(windowBytes: batchSize * Self.sampleBytes, on: TrainingTests.device())
      }
      let histories = try zip(trainers, [DataPlacement.resident, .streamed]).map { trainer, placement in
        try trainer.fit(data, epochs: 2, batchSize: batchSize, placement: placement)
      }
      #expect(trainers.map { $0.isStreamed(.train) } == [false, true])
      #expect(histories[0].epochs.map(\.stepLosses) == histories[1].epochs.map(\.stepLosses))
      #expect(changed(trainers[0].model.bits, trainers[1].model.bits).isEmpty)
    }

    /// The two executables of a batch size work in the same memory.
    @Test func windowsShareTheirMemory() throws {
      let trainer = try trainer(windowBytes: 32 * Self.sampleBytes, on: TrainingTests.device())
      try trainer.fit(clusters(200), epochs: 1, batchSize: 16, placement: .streamed)
      let shape = try #require(trainer.lastTraining).shape
      var second = shape
      second.names.isSecond = true
      let made = trainer.compilations
      let executables = try [shape, second].map { try trainer.trainingExecutable($0, .stop) }
      #expect(trainer.compilations == made && executables[0] !== executables[1])
      #expect(executables[0].activations === executables[1].activations)
      #expect(executables[0].gradients === executables[1].gradients)
    }

    @Test func droppedShortBatch() throws {
      let bits = try [DataPlacement.resident, .streamed].map { placement in
        let trainer = try trainer(windowBytes: 20 * Self.sampleBytes, on: TrainingTests.device())
        let history = try trainer.fit(clusters(73), epochs: 2, batchSize: 8, dropsLast: true, placement: placement)
        #expect(history.steps == 18 && trainer.isStreamed(.train) == (placement == .streamed))
        return try trainer.deviceBits()
      }
      #expect(changed(bits[0], bits[1]).isEmpty)
    }

    /// Two windows of one batch each hold two batches.
    @Test func tinySets() throws {
      for (count, batchSize) in [(1, 1), (1, 8), (2, 1), (3, 1), (7, 3)] {
        let bits = try [DataPlacement.resident, .streamed].map { placement in
          let trainer = try trainer(windowBytes: 1, on: TrainingTests.device(), network(norm: false))
          try trainer.fit(clusters(count), epochs: 3, batchSize: batchSize, placement: placement)
          #expect(trainer.isStreamed(.train) == (placement == .streamed && count > 2))
          return try trainer.deviceBits()
        }
        #expect(changed(bits[0], bits[1]).isEmpty)
      }
    }

    @Test(arguments: TrainingTests.devices) func regressionOfSeveralOutputs(device: Device) throws {
      let features = try clusters(75).features
      let targets = try HostTensor([75, 3], (0..<225).map { Float($0 % 7) })
      let data = try Dataset(name: "map", features: features, targets: targets, scale: 0.5)
      let bits = try [DataPlacement.resident, .streamed].map { placement in
        let trainer = try trainer(windowBytes: 20 * 44, on: device, network(8, 3), loss: .meanSquaredError)
        try trainer.fit(data, epochs: 2, batchSize: 8, placement: placement)
        #expect(trainer.isStreamed(.train) == (placement == .streamed))
        return try trainer.deviceBits()
      }
      #expect(changed(bits[0], bits[1]).isEmpty)
    }

    @Test(arguments: TrainingTests.devices) func evaluationIsTheSame(device: Device) throws {
      let trainer = try trainer(windowBytes: 30 * Self.sampleBytes, on: device)
      try trainer.fit(clusters(64), epochs: 1, batchSize: 16)
      let data = try clusters(101, seed: 4)
      for batchSize in [1, 7, 30, 51] {
        let resident = try trainer.evaluate(data, batchSize: batchSize, placement: .resident)
        #expect(!trainer.isStreamed(.evaluation))
        // Twice: what the first one leaves behind is no part of the second.
        for _ in 0..<2 {
          #expect(try trainer.evaluate(data, batchSize: batchSize, placement: .streamed) == resident)
          #expect(trainer.isStreamed(.evaluation) == (batchSize < 51))
        }
      }
    }

    @Test(arguments: [Recalibration.Mode.exact, .averageOfBatches], [false, true])
    func recalibrationIsTheSame(mode: Recalibration.Mode, shuffles: Bool) throws {
      let trainer = try trainer(windowBytes: 30 * Self.sampleBytes, on: TrainingTests.device())
      let data = try clusters(101)
      try trainer.fit(data, epochs: 1, batchSize: 16)
      let results = try [DataPlacement.resident, .streamed].map { placement in
        try trainer.recalibrate(
          on: data, mode: mode, batchSize: 8, shuffles: shuffles, seed: 3, placement: placement)
      }
      #expect(results[0] == results[1] && results[1].samples == 101)
    }

    /// 200 samples in windows of 32; `value` in place of a feature of sample 150.
    private func broken(_ value: Float) throws -> Dataset {
      var values = try clusters(200).features.floats
      values[150 * 8 + 3] = value
      return try Dataset(
        name: "broken", features: HostTensor([200, 8], values), labels: clusters(200).targets, classCount: 4)
    }

    @Test(arguments: TrainingTests.devices, [NonFinitePolicy.stop, .skip])
    func nonFiniteLoss(device: Device, policy: NonFinitePolicy) throws {
      for batchSize in [8, 1] {
        let trainers = try (0..<2).map { _ in
          try trainer(windowBytes: 32 * Self.sampleBytes, on: device, network(norm: false))
        }
        let outcomes = try zip(trainers, [DataPlacement.resident, .streamed]).map { trainer, placement -> [[Double]] in
          do {
            let history = try trainer.fit(
              broken(.nan), epochs: 2, batchSize: batchSize, seed: 1, onNonFiniteLoss: policy, placement: placement)
            #expect(policy == .skip && history.skippedSteps == 2)
            return history.epochs.map { $0.stepLosses.map { $0.isFinite ? $0 : -1 } }
          } catch let error as NonFiniteLoss {
            #expect(policy == .stop && error.sample == 150 && error.epoch == 1)
            return [[Double(error.step)]]
          }
        }
        #expect(outcomes[0] == outcomes[1] && trainers[1].isStreamed(.train))
        #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
        #expect(trainers[0].step == trainers[1].step)
        // And training may go on.
        #expect(
          try trainers[1].fit(clusters(200), epochs: 1, batchSize: 8, placement: .streamed).epochs[0].trainLoss.isFinite
        )
      }
    }

    /// Stopped within a window, training has learnt from the samples seen, and goes on as it would have.
    @Test func earlyStop() throws {
      let data = try clusters(640)
      let trainers = try (0..<2).map { _ in
        try trainer(windowBytes: 300 * Self.sampleBytes, on: TrainingTests.device())
      }
      for (trainer, placement) in zip(trainers, [DataPlacement.resident, .streamed]) {
        let history = try trainer.fit(data, epochs: 5, batchSize: 2, seed: 2, placement: placement) { event in
          if case .progress(2, 192, _) = event { false } else { true }
        }
        #expect(history.epochs.map(\.steps) == [320, 192] && trainer.step == 512)
      }
      #expect(trainers[1].isStreamed(.train))
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
      for (trainer, placement) in zip(trainers, [DataPlacement.streamed, .resident]) {
        try trainer.fit(data, epochs: 1, batchSize: 2, seed: 2, placement: placement)
      }
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
    }

    /// Samples of `clusters` that cannot be read from some sample on, or have labels that there are not.
    private struct Faulty: SampleSource {
      struct Failure: Error, CustomStringConvertible { var description: String { "the disk is gone" } }
      let data: Dataset
      /// Nothing that has this index can be read.
      var missing: Int32?
      var labels: Int32 = 0
      var scale = 1.0
      let name = "faulty"
      var featureType: TensorType { data.featureType }
      var targetType: TensorType { data.targetType }
      var classCount: Int { data.classCount }

      func read(
        _ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan
      ) throws {
        if let missing, samples.contains(missing) { throw Failure() }
        try data.read(samples, features: &features, targets: &targets)
        if labels > 0, samples.contains(99) {
          let position = (samples.firstIndex(of: 99) ?? 0) - samples.startIndex
          targets.storeBytes(of: labels, toByteOffset: 4 * position, as: Int32.self)
        }
      }
    }

    /// A source that fails in the middle: the model has the steps before, in order, and training may go on.
    @Test(arguments: TrainingTests.devices) func failingSource(device: Device) throws {
      let data = try clusters(120)
      let trainers = try (0..<2).map { _ in try trainer(windowBytes: 32 * Self.sampleBytes, on: device) }
      let error = #expect(throws: SampleError.self) {
        try trainers[0].fit(
          Faulty(data: data, missing: 70), epochs: 2, batchSize: 8, shuffles: false, placement: .streamed)
      }
      #expect(error?.description == "[train] samples of faulty could not be read: the disk is gone")
      #expect(error?.underlying is Faulty.Failure && error?.history.epochs.isEmpty == true)
      // Sample 70 is in the third window.
      #expect(trainers[0].step == 8)
      try trainers[1].fit(data.prefix(64), epochs: 1, batchSize: 8, shuffles: false)
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
      #expect(changed(trainers[0].model.bits, trainers[1].model.bits).isEmpty)
      for trainer in trainers { try trainer.fit(data, epochs: 1, batchSize: 8) }
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()).isEmpty)
    }

    @Test func failingValidation() throws {
      let trainer = try trainer(windowBytes: 32 * Self.sampleBytes, on: TrainingTests.device())
      trainer.windowBytes = 1
      let faulty = Faulty(data: try clusters(3000), missing: 2900)
      let error = #expect(throws: SampleError.self) {
        try trainer.fit(clusters(96), epochs: 2, batchSize: 32, validation: faulty, placement: .streamed)
      }
      #expect(error?.history.epochs.map(\.steps) == [3] && trainer.step == 3)
    }

    @Test func unreadableSetsAndWrongLabels() throws {
      let (trainer, data) = (try trainer(windowBytes: 320, on: TrainingTests.device()), try clusters(120))
      let before = trainer.model.bits
      for placement in DataPlacement.allCases {
        #expect(
          message { try trainer.evaluate(Faulty(data: data, missing: 3), batchSize: 8, placement: placement) }
            == "[train] samples of faulty could not be read: the disk is gone")
        #expect(
          message { try trainer.evaluate(Faulty(data: data, labels: 4), batchSize: 8, placement: placement) }
            == "[train] samples of faulty could not be read: [dataset] faulty: label 4 at index 99, expected 0…3")
      }
      #expect(
        message { try trainer.fit(Faulty(data: data, scale: -1), epochs: 1, batchSize: 8) }
          == "[dataset] faulty: expects a scale above 0, got -1.0")
      #expect(changed(before, trainer.model.bits).isEmpty && trainer.step == 0)
    }

    @Test func samplesThatThereAreNot() throws {
      let data = try clusters(10)
      var (features, targets) = ([UInt8](repeating: 0, count: 64), [UInt8](repeating: 0, count: 8))
      func read(_ samples: [Int32]) -> String {
        message {
          var featureSpan = features.mutableSpan
          var targetSpan = targets.mutableSpan
          var featureBytes = featureSpan.mutableBytes
          var targetBytes = targetSpan.mutableBytes
          try data.read(samples[...], features: &featureBytes, targets: &targetBytes)
        }
      }
      #expect(read([9, 0]) == "no error, but ()")
      #expect(try features == data.features.rows(9..<10).bytes + data.features.rows(0..<1).bytes)
      for samples in [[0, 10], [-1, 0], [1, 2, 3]] as [[Int32]] {
        #expect(read(samples).hasPrefix("[dataset] clusters: expects indices in 0..<10, and room for"))
      }
    }

    /// Sets that two windows hold are resident, as are those that the device has room for.
    @Test func whatIsStreamed() throws {
      let device = try TrainingTests.device()
      func reason(_ placement: DataPlacement, _ count: Int, _ batchSize: Int) throws -> String? {
        try placement.streamingReason(
          clusters(count), batchSize: batchSize, on: device, windowBytes: 20 * Self.sampleBytes)
      }
      #expect(try reason(.streamed, 33, 8) == "as asked for")
      #expect(try reason(.streamed, 32, 8) == nil)
      #expect(try reason(.streamed, 60, 30) == nil)
      #expect(try reason(.streamed, 61, 30) != nil)
      #expect(try reason(.automatic, 33, 8) == nil)
      #expect(try reason(.resident, 33, 8) == nil)
      for batchSize in [0, -1, .min] { #expect(try reason(.streamed, 33, batchSize) == nil) }
      #expect(try reason(.streamed, 33, .max) == nil)
      #expect(try DataPlacement.streamed.streamingReason(clusters(33), batchSize: 8, on: device) == nil)

      func large(_ features: Int) -> String? {
        DataPlacement.automatic.streamingReason(Large(features: features), batchSize: 8, on: device)
      }
      let limit = device.maxAllocationBytes / 1000
      #expect(
        large(limit + 1) == "its features of \((limit + 1) * 1000) bytes exceed the device's largest buffer of "
          + "\(device.maxAllocationBytes)")
      let third = device.globalMemoryBytes / 3 / 1000
      if third < limit { #expect(large(third + 1)?.hasSuffix("a third of the device's memory") == true) }
      #expect(large(min(third, limit) - 5) == nil)
    }

    /// A thousand samples that only seem to be there.
    private struct Large: SampleSource {
      let features: Int
      let name = "large"
      let classCount = 4
      let scale = 1.0
      var featureType: TensorType { TensorType([1000, features], .uint8) }
      var targetType: TensorType { TensorType([1000], .int32) }
      func read(_: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan) throws {}
    }
  }
}

extension Trainer {
  /// Whether the device has room for windows, as the last call made it.
  fileprivate func isStreamed(_ names: DataNames) -> Bool { variables.type(of: names.second.features) != nil }
}
