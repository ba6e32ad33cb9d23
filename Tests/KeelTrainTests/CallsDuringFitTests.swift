import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// What `fit` leaves behind when something comes in between.
  @Suite struct CallsDuringFit {
    private func trainer(_ layer: any Layer = network()) throws -> Trainer {
      try Trainer(
        layer, loss: .softmaxCrossEntropy, optimizer: SGD(learningRate: 0.05, momentum: 0.9),
        on: TrainingTests.device(), seed: 2)
    }

    /// Every call from `observe`, at every event, is refused and changes nothing of what is learnt and validated.
    @Test func areRefused() throws {
      let (data, test) = (try clusters(100), try clusters(40, seed: 3))
      let (disturbed, quiet) = (try trainer(), try trainer())
      var messages: Set<String> = []
      var events = 0
      let history = try disturbed.fit(data, epochs: 3, batchSize: 16, validation: test) { _ in
        events += 1
        messages.insert(message { try disturbed.evaluate(data) })
        messages.insert(message { try disturbed.predict(test.features) })
        messages.insert(message { try disturbed.recalibrate(on: data) })
        messages.insert(message { try disturbed.fit(data, epochs: 1, batchSize: 8) })
        return true
      }
      #expect(events > 3)
      #expect(
        messages
          == Set(
            ["evaluate", "predict", "recalibrate", "fit"].map {
              "[train] fit is running: \($0) expects to be called before or after it, not by observe; return false "
                + "there to stop"
            }))
      let expected = try quiet.fit(data, epochs: 3, batchSize: 16, validation: test)
      #expect(history.epochs.map(\.stepLosses) == expected.epochs.map(\.stepLosses))
      #expect(history.epochs.map(\.validation) == expected.epochs.map(\.validation))
      #expect(changed(disturbed.model.bits, quiet.model.bits) == [])
      // Afterwards they are allowed, also when fit has thrown.
      _ = message { try disturbed.fit(data, epochs: 1, batchSize: 0) }
      #expect(try disturbed.evaluate(test) == quiet.evaluate(test))
    }

    /// An error where the third epoch is given to the device, which is while the second runs. That one is finished and
    /// reported; parameters, slots and step are those of the steps taken, and training goes on from there as if nothing
    /// had been. Without its order an epoch can't begin, and without the samples none of its steps.
    @Test(arguments: [
      (DataNames.train.order, "[variables] no data/train.order"),
      (DataNames.train.features, "[executable] train.16: a"),
    ])
    func anErrorInAnEpochKeepsItsSteps(missing: String, text: String) throws {
      let data = try clusters(100)
      let (broken, quiet) = (try trainer(), try trainer())
      var reported: [[Double]] = []
      let error = message {
        try broken.fit(data, epochs: 4, batchSize: 16) { event in
          if case .progress(1, 7, _) = event { broken.variables.release(missing) }
          if case .epoch(let epoch) = event { reported.append(epoch.stepLosses) }
          return true
        }
      }
      #expect(error.contains(text), "\(error)")
      #expect(try quiet.fit(data, epochs: 2, batchSize: 16).epochs.map(\.stepLosses) == reported)
      #expect(broken.step == quiet.step && broken.step == 14)
      #expect(changed(broken.model.bits, quiet.model.bits) == [])
      #expect(changed(try broken.deviceBits(), try quiet.deviceBits()) == [])
      for trainer in [broken, quiet] { try trainer.fit(data, epochs: 1, batchSize: 16) }
      #expect(changed(broken.model.bits, quiet.model.bits) == [])
    }

    /// Layers whose properties are named like what the trainer keeps on the device.
    @Test func propertiesMayHaveAnyName() throws {
      struct Named: Layer {
        struct Data: Layer {
          let features = Parameter([8], initializer: .ones)
          func callAsFunction(_ x: Tensor) -> Tensor { x * features }
        }
        struct Momentum: Layer {
          let train = Data()
          let weight: Linear
          func callAsFunction(_ x: Tensor) -> Tensor { weight(train(x)) }
        }
        let train = Data()
        let momentum: Momentum
        let weight: Linear
        init(_ first: Linear, _ second: Linear) {
          momentum = Momentum(weight: first)
          weight = second
        }
        func callAsFunction(_ x: Tensor) -> Tensor { weight(momentum(train(x)).relu()) }
      }
      struct Plain: Layer {
        let a = Named.Data()
        let b = Named.Data()
        let c: Linear
        let d: Linear
        func callAsFunction(_ x: Tensor) -> Tensor { d(c(b(a(x))).relu()) }
      }
      let data = try clusters(64)
      let named = try trainer(Named(Linear(8, 8), Linear(8, 4)))
      let plain = try trainer(Plain(c: Linear(8, 8), d: Linear(8, 4)))
      #expect(named.model.parameters.map(\.path).contains("momentum.weight.weight"))
      let losses = try [named, plain].map { try $0.fit(data, epochs: 2, batchSize: 16).epochs.map(\.stepLosses) }
      #expect(losses[0] == losses[1])
      #expect(named.model.parameters.map(\.value) == plain.model.parameters.map(\.value))
    }
  }
}
