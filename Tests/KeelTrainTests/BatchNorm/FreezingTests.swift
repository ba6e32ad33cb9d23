import Foundation
import KeelCL
import KeelCore
import KeelIO
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  @Suite struct Freezing {
    @Test(arguments: TrainingTests.devices)
    func aFrozenLayerStaysAsItIs(device: Device) throws {
      let (norm, trainer) = try trained(on: device)
      norm.freeze()
      let before = trainer.model.bits
      try trainer.fit(clusters(96), epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits) == ["layers.0.weight", "layers.3.bias", "layers.3.weight"])
      norm.unfreeze()
      try trainer.fit(clusters(96), epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits).count == 8)
    }

    /// With a rate of 0 the loss of training is that of evaluation, when and only when the layer is frozen.
    @Test(arguments: TrainingTests.devices)
    func itNormalizesByRunningStatisticsInTraining(device: Device) throws {
      let (norm, trainer) = try trained(on: device)
      let data = try clusters(96, seed: 5)
      trainer.learningRate = 0
      func trainingLoss() throws -> Double {
        try #require(trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false).epochs.first).trainLoss
      }
      norm.freeze()
      let evaluated = try trainer.evaluate(data).loss
      #expect(abs(try trainingLoss() - evaluated) < 1e-6 * max(1, evaluated))
      norm.unfreeze()
      #expect(abs(try trainingLoss() - evaluated) > 1e-3)
    }

    /// No parameter tells the two states of this layer apart; the statistics have to.
    @Test func theSwitchMayBeThrownBetweenTwoFits() throws {
      let norm = BatchNorm(16, scale: false, shift: false)
      let trainer = try trainer(Sequential([Linear(8, 16), norm, ReLU(), Linear(16, 4)]))
      let data = try clusters(96)
      for isFrozen in [false, true, false, true] {
        isFrozen ? norm.freeze() : norm.unfreeze()
        let before = trainer.model.bits
        try trainer.fit(data, epochs: 1, batchSize: 32)
        let moved = changed(before, trainer.model.bits).filter { $0.hasPrefix("layers.1") }
        #expect(moved.isEmpty == isFrozen)
      }
    }

    @Test func aFrozenLayerTakesBatchesOfOne() throws {
      let (norm, trainer) = try trained(on: TrainingTests.device())
      let data = try clusters(4)
      #expect(message { try trainer.fit(data, epochs: 1, batchSize: 1) }.contains("layers.1"))
      norm.freeze()
      #expect(try trainer.fit(data, epochs: 1, batchSize: 1).steps == 4)
    }

    @Test func withoutStatisticsOnlyScaleAndShiftAreFixed() throws {
      let norm = BatchNorm(16, tracksRunningStatistics: false)
      let trainer = try trainer(Sequential([Linear(8, 16, bias: false), norm, ReLU(), Linear(16, 4)]))
      norm.freeze()
      #expect(!norm.isFrozen)
      let before = trainer.model.bits
      try trainer.fit(clusters(96), epochs: 1, batchSize: 32)
      #expect(changed(before, trainer.model.bits) == ["layers.0.weight", "layers.3.bias", "layers.3.weight"])
    }

    @Test func pathsNameLayersAndVariables() throws {
      let model = Model(Sequential((0..<11).map { _ in BatchNorm(2) }))
      try model.freeze("layers.1")
      #expect(
        model.frozenVariables
          == ["scale", "shift", "runningMean", "runningVariance", "batchesTracked"].map { "layers.1.\($0)" })
      try model.unfreeze("layers.1.scale")
      #expect(model.frozenVariables.count == 4)
      #expect(model.trainedVariables.count == 51)
      try model.freeze()
      #expect(model.trainedVariables.isEmpty)
      try model.unfreeze("layers")
      #expect(model.frozenVariables.isEmpty)
      #expect(
        message { try model.freeze("layers.11") }
          == "[freeze] expects the path of a layer with variables, got layers.11")
      #expect(message { try model.unfreeze("layers.1.sc") }.hasPrefix("[unfreeze] expects the path"))
    }

    @Test func whatIsFrozenIsSaved() throws {
      let (norm, trainer) = try trained(on: TrainingTests.device())
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let path = folder.appendingPathComponent("model.safetensors").path
      let description = SavedModel.Description(
        network: try #require(trainer.model.configuration), loss: .softmaxCrossEntropy, sampleShape: [8], scale: 1,
        classCount: 4, data: "clusters")
      try SavedModel(trainer.model, description).write(to: path)
      #expect(try SavedModel(reading: path).model.frozenVariables.isEmpty)

      norm.freeze()
      try SavedModel(trainer.model, description).write(to: path)
      let read = try SavedModel(reading: path).model
      #expect(read.frozenVariables == trainer.model.frozenVariables)
      #expect(read.frozenVariables.count == 5)
      #expect(changed(read.bits, trainer.model.bits).isEmpty)

      let file = try Safetensors(reading: path)
      for (list, reason) in [("[\"layers.9.scale\"]", "layers.9.scale is to be frozen"), ("scale", "expected")] {
        var metadata = file.metadata
        metadata["keel.frozen"] = list
        try Safetensors(tensors: file.tensors, metadata: metadata).write(to: path)
        let text = message { try SavedModel(reading: path) }
        #expect(text.hasPrefix("[model] \(path)") || text.contains(path), "\(text)")
        #expect(list == "scale" || text.contains(reason), "\(text)")
      }
    }

    @Test func statisticsAreSetBack() throws {
      let (norm, trainer) = try trained(on: TrainingTests.device())
      let before = trainer.model.bits
      let loss = try trainer.evaluate(clusters(96)).loss
      trainer.model.resetRunningStatistics()
      #expect(changed(before, trainer.model.bits) == networkStatistics)
      #expect(norm.runningMean?.value == (try HostTensor([16], [Float](repeating: 0, count: 16))))
      #expect(norm.runningVariance?.value == (try HostTensor([16], [Float](repeating: 1, count: 16))))
      #expect(try trainer.evaluate(clusters(96)).loss != loss)
      // A layer alone, and one that has no values yet.
      norm.runningMean?.value = try HostTensor([16], [Double](repeating: 3, count: 16))
      norm.resetRunningStatistics()
      #expect(norm.runningMean?.value == (try HostTensor([16], [Double](repeating: 0, count: 16))))
      let untouched = BatchNorm(3)
      untouched.resetRunningStatistics()
      #expect(untouched.runningMean?.value == nil)
    }

    @Test func aFrozenModelDoesNotMove() throws {
      let (_, trainer) = try trained(on: TrainingTests.device())
      try trainer.model.freeze()
      let before = trainer.model.bits
      let history = try trainer.fit(clusters(96), epochs: 1, batchSize: 32, shuffles: false)
      #expect(changed(before, trainer.model.bits).isEmpty)
      let loss = try #require(history.epochs.first).trainLoss
      #expect(abs(try trainer.evaluate(clusters(96)).loss - loss) < 1e-6 * max(1, loss))
    }

    private func trainer(_ layer: any Layer, on device: Device? = nil) throws -> Trainer {
      try Trainer(
        layer, loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0.05), on: try device ?? TrainingTests.device(),
        seed: 2)
    }

    /// A network after one epoch, whose statistics are still far from those of the data.
    private func trained(on device: Device) throws -> (norm: BatchNorm, trainer: Trainer) {
      let norm = BatchNorm(16)
      let trainer = try trainer(Sequential([Linear(8, 16, bias: false), norm, ReLU(), Linear(16, 4)]), on: device)
      try trainer.fit(clusters(96), epochs: 1, batchSize: 32)
      return (norm, trainer)
    }
  }
}
