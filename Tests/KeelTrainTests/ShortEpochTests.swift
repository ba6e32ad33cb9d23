import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// Short epochs, of which the device has the next one before the host has looked at the one at hand.
  @Suite struct ShortEpochs {
    /// Steps of the next epoch that the device has when an epoch is reported, 7 being all.
    private func stepsAhead(
      _ layer: any Layer, _ optimizer: any Optimizer, epochs: Int, validates: Bool = false,
      placement: DataPlacement = .automatic
    ) throws -> [Int] {
      let trainer = try Trainer(layer, loss: .softmaxCrossEntropy, optimizer: optimizer, on: TrainingTests.device())
      // Streamed, less than the set in two windows.
      trainer.windowBytes = 1024
      let data = try clusters(100)
      var steps: [Int] = []
      try trainer.fit(
        data, epochs: epochs, batchSize: 16, validation: validates ? data : nil, placement: placement
      ) { event in
        if case .epoch(let epoch) = event, let cursor = try? trainer.variables.read(DataNames.train.cursor).doubles {
          steps.append(Int(cursor[Cursor.step]) - 7 * epoch.number)
        }
        return true
      }
      return steps
    }

    @Test func whatTheDeviceHasAhead() throws {
      #expect(try stepsAhead(network(), Adam(), epochs: 3) == [7, 7, 0])
      #expect(try stepsAhead(network(), Adam(), epochs: 1) == [0])
      #expect(try stepsAhead(network(), Adam(), epochs: 3, validates: true) == [0, 0, 0])
      #expect(try stepsAhead(network(), Adam(), epochs: 3, placement: .streamed) == [0, 0, 0])
      // 0.8 MB, and thrice as much with the slots.
      func large() -> Sequential { Sequential([Linear(8, 16_000), Linear(16_000, 4)]) }
      #expect(try stepsAhead(large(), SGD(learningRate: 1e-4), epochs: 2) == [7, 0])
      #expect(try stepsAhead(large(), Adam(), epochs: 2) == [0, 0])
    }

    /// Who looks at the end of an epoch sees the values of that end, and who stops then has those, and its order: it was
    /// as if the device had waited.
    @Test(arguments: TrainingTests.devices, [false, true])
    func stoppingTakesBackWhatWasAhead(device: Device, inProgress: Bool) throws {
      let data = try clusters(100)
      for last in 1...4 {
        let trainers = try (0..<2).map { _ in
          try Trainer(network(), loss: .softmaxCrossEntropy, optimizer: Adam(), on: device, seed: 2)
        }
        var seen: [[String: [UInt8]]] = []
        let history = try trainers[0].fit(data, epochs: 5, batchSize: 16) { event in
          switch event {
          case .progress(let number, _, _): return !inProgress || number < last
          case .epoch(let epoch):
            seen.append(trainers[0].model.bits)
            return inProgress || epoch.number < last
          case .compiled: return true
          }
        }
        var expected: [[String: [UInt8]]] = []
        let quiet = try (0..<last).map { _ in
          let epoch = try trainers[1].fit(data, epochs: 1, batchSize: 16).epochs[0]
          expected.append(trainers[1].model.bits)
          return epoch.stepLosses
        }
        #expect(history.epochs.map(\.stepLosses) == quiet && seen == expected)
        #expect(trainers[0].step == trainers[1].step)
        #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()) == [])
        let orders = try trainers.map { try $0.variables.read(DataNames.train.order).bytes }
        #expect(orders[0] == orders[1])
        for trainer in trainers { try trainer.fit(data, epochs: 2, batchSize: 16) }
        #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()) == [])
      }
    }

    /// Steps that are far too long: the error grows some sixtyfold a step, so the square of it overflows in the second
    /// epoch, when the device has the third. All is as where it has one at a time, and so it goes on from there.
    @Test(arguments: TrainingTests.devices) func aLossThatIsNotFiniteTakesBackWhatWasAhead(device: Device) throws {
      let classes = try clusters(100)
      let data = try Dataset(
        name: "regression", features: classes.features,
        targets: HostTensor([100, 1], classes.targets.doubles.map { Float($0) }))
      let trainers = try (0..<2).map { _ in
        let network = Sequential([BatchNorm(8, scale: false, shift: false), Linear(8, 1)])
        return try Trainer(
          network, loss: .meanSquaredError, optimizer: SGD(learningRate: 10, momentum: 0.9), on: device, seed: 2)
      }
      let start = Dictionary(uniqueKeysWithValues: trainers[0].model.state.map { ($0.name, $0.value) })
      var reported: [Int] = []
      let error = try #require(
        #expect(throws: NonFiniteLoss.self) {
          try trainers[0].fit(data, epochs: 4, batchSize: 16) { event in
            if case .epoch(let epoch) = event { reported.append(epoch.number) }
            return true
          }
        })
      let first = try trainers[1].fit(data, epochs: 1, batchSize: 16)
      let quiet = try #require(
        #expect(throws: NonFiniteLoss.self) { try trainers[1].fit(data, epochs: 1, batchSize: 16) })
      #expect(error.epoch == 2 && error.step == quiet.step && reported == [1])
      #expect(error.history.epochs.map(\.stepLosses) == first.epochs.map(\.stepLosses))
      #expect(trainers[0].step == 7 + error.step - 1 && trainers[0].step == trainers[1].step)
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()) == [])
      #expect(changed(trainers[0].model.bits, trainers[1].model.bits) == [])
      // From the first values, with steps that the momentum left behind does not make too long.
      let losses = try trainers.map { trainer in
        try trainer.model.load(start)
        trainer.learningRate = 1e-24
        return try trainer.fit(data, epochs: 2, batchSize: 16).epochs.map(\.stepLosses)
      }
      #expect(losses[0] == losses[1])
      #expect(changed(try trainers[0].deviceBits(), try trainers[1].deviceBits()) == [])
    }
  }
}
