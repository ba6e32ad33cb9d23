import KeelCL
import KeelCore
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// Batches that do not divide the data, and what `fit` reports and when.
  @Suite struct Batches {
    private func trainer(
      norm: Bool = false, _ optimizer: any KeelNN.Optimizer = SGD(learningRate: 0.1), _ layer: Sequential? = nil
    ) throws -> Trainer {
      try Trainer(
        layer ?? network(norm: norm), loss: .softmaxCrossEntropy, optimizer: optimizer, on: TrainingTests.device(),
        seed: 3)
    }

    /// Before an epoch every executable is run once, for the driver's sake: with the rate of the first step, as there
    /// are rates for the steps of an epoch only.
    @Test func eachSizeOfBatchIsTriedAsTheFirstStep() throws {
      for placement in [DataPlacement.resident, .streamed] {
        let trainer = try trainer()
        trainer.windowBytes = 1
        try trainer.fit(clusters(50), epochs: 1, batchSize: 16, placement: placement) { _ in false }
        #expect(try trainer.variables.read(DataNames.train.cursor).doubles.dropFirst() == [1, 1])
        #expect(trainer.step == 0)
      }
    }

    @Test func theShortLastBatchCountsByItsSamples() throws {
      let data = try clusters(50)
      // Nothing is learnt and there is no batch norm, so training losses are evaluation losses.
      let trainer = try trainer(norm: false, SGD(learningRate: 0))
      let epoch = try #require(trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false).epochs.first)
      let (full, short) = (try trainer.evaluate(data.rows(0..<32)), try trainer.evaluate(data.rows(32..<50)))
      let all = try trainer.evaluate(data)
      #expect(departure(epoch.stepLosses, [full.loss, short.loss]) < 1e-6)
      #expect(abs(full.loss - short.loss) > 1e-3, "equal losses would hide wrong weights")
      #expect(abs(epoch.trainLoss - (32 * full.loss + 18 * short.loss) / 50) < 1e-6)
      #expect(abs(epoch.trainLoss - all.loss) < 1e-6 && epoch.trainAccuracy == all.accuracy)
      #expect(epoch.steps == 2 && all.count == 50)
      // The same of evaluation's own batches.
      for batchSize in [7, 50, 1000] {
        let batched = try trainer.evaluate(data, batchSize: batchSize)
        #expect(abs(batched.loss - all.loss) < 1e-6 && batched.accuracy == all.accuracy && batched.count == 50)
      }
    }

    @Test func theShortLastBatchMayBeDropped() throws {
      let data = try clusters(50)
      let (dropping, prefix) = (try trainer(norm: true), try trainer(norm: true))
      let epoch = try #require(
        dropping.fit(data, epochs: 1, batchSize: 32, shuffles: false, dropsLast: true).epochs.first)
      let expected = try #require(prefix.fit(data.prefix(32), epochs: 1, batchSize: 32, shuffles: false).epochs.first)
      #expect(epoch.steps == 1 && dropping.step == 1)
      #expect(epoch.stepLosses == expected.stepLosses && epoch.trainLoss == expected.trainLoss)
      #expect(epoch.trainAccuracy == expected.trainAccuracy)
      #expect(changed(dropping.model.bits, prefix.model.bits) == [])
    }

    @Test func aBatchLargerThanTheDataIsAllOfIt() throws {
      let data = try clusters(50)
      let (large, exact) = (try trainer(norm: true), try trainer(norm: true))
      for dropsLast in [false, true] {
        let epoch = try #require(
          large.fit(data, epochs: 1, batchSize: 64, shuffles: false, dropsLast: dropsLast).epochs.first)
        let expected = try #require(exact.fit(data, epochs: 1, batchSize: 50, shuffles: false).epochs.first)
        #expect(epoch.steps == 1 && epoch.stepLosses == expected.stepLosses)
      }
      #expect(changed(large.model.bits, exact.model.bits) == [])
    }

    @Test func aLastBatchOfOneWithBatchNorm() throws {
      let data = try clusters(33)
      let trainer = try trainer(norm: true)
      let before = trainer.model.bits
      var events = 0
      let error = message {
        try trainer.fit(data, epochs: 1, batchSize: 32) { _ in
          events += 1
          return true
        }
      }
      #expect(
        error == """
          [train] the last batch of an epoch has 1 sample: [batchNormTraining] layers.1: training expects more than \
          one value per channel, got [1, 16]: the variance of one value is no estimate. Choose another batch size, \
          or leave the short batch out
          """)
      #expect(events == 0 && trainer.step == 0)
      #expect(changed(before, trainer.model.bits) == [])
      // The two ways out.
      #expect(try trainer.fit(data, epochs: 1, batchSize: 32, dropsLast: true).steps == 1)
      #expect(try trainer.fit(data, epochs: 1, batchSize: 11).steps == 3)
    }

    @Test func aLastBatchOfOneWithoutBatchNorm() throws {
      let trainer = try trainer(norm: false, SGD(learningRate: 0))
      let data = try clusters(33)
      let epoch = try #require(trainer.fit(data, epochs: 1, batchSize: 32, shuffles: false).epochs.first)
      #expect(departure(epoch.stepLosses.suffix(1), [try trainer.evaluate(data.rows(32..<33)).loss]) < 1e-6)
      #expect(abs(epoch.trainLoss - (try trainer.evaluate(data).loss)) < 1e-6)
      #expect(try trainer.fit(data, epochs: 1, batchSize: 1).steps == 33)
    }

    /// There every batch has one sample: leaving out the last is no way out.
    @Test func batchesOfOneWithBatchNorm() throws {
      let trainer = try trainer(norm: true)
      for error in [
        message { try trainer.fit(clusters(5), epochs: 1, batchSize: 1) },
        message { try trainer.fit(clusters(1), epochs: 1, batchSize: 32) },
      ] {
        #expect(
          error == "[batchNormTraining] layers.1: training expects more than one value per channel, got [1, 16]: "
            + "the variance of one value is no estimate")
      }
    }

    @Test func eventsInOrder() throws {
      let trainer = try trainer(norm: true)
      var events: [String] = []
      let data = try clusters(300)
      let history = try trainer.fit(data, epochs: 2, batchSize: 4, validation: clusters(20, seed: 4)) { event in
        switch event {
        case .compiled(let seconds): events.append("compiled \(seconds >= 0)")
        case .progress(let epoch, let step, let steps): events.append("\(epoch): \(step)/\(steps)")
        case .epoch(let epoch):
          // Values are back on the host when an epoch is reported, for whoever saves them.
          let value = trainer.model.parameters.first?.value
          let resident = try? trainer.variables.read("layers.0.weight")
          events.append("epoch \(epoch.number) \(epoch.validation?.count ?? 0) \(value == resident)")
        }
        return true
      }
      #expect(
        events == [
          "compiled true", "1: 64/75", "1: 75/75", "epoch 1 20 true", "2: 64/75", "2: 75/75", "epoch 2 20 true",
        ])
      #expect(history.epochs.map(\.number) == [1, 2] && history.steps == 150)
      #expect(history.trainSeconds > 0 && history.microsecondsPerStep > 0)
    }

    @Test func stoppingInsideAnEpoch() throws {
      let data = try clusters(640)
      let stopped = try trainer(norm: true, Adam(learningRate: 0.01))
      var reports: [Int] = []
      let history = try stopped.fit(
        data, epochs: 5, batchSize: 4, validation: clusters(20), shuffles: false
      ) { event in
        guard case .progress(_, let step, _) = event else { return true }
        reports.append(step)
        return false
      }
      let epoch = try #require(history.epochs.first)
      #expect(history.epochs.count == 1 && epoch.steps == 64 && stopped.step == 64 && epoch.validation == nil)
      #expect(reports == [64])
      // What was learnt is that of the samples seen, and it is back on the host.
      let prefix = try trainer(norm: true, Adam(learningRate: 0.01))
      let expected = try #require(
        prefix.fit(data.prefix(256), epochs: 1, batchSize: 4, shuffles: false).epochs.first)
      #expect(epoch.stepLosses == expected.stepLosses && epoch.trainLoss == expected.trainLoss)
      #expect(epoch.trainAccuracy == expected.trainAccuracy)
      #expect(changed(prefix.model.bits, stopped.model.bits) == [])
      // And it can go on.
      #expect(try stopped.fit(data, epochs: 1, batchSize: 4).steps == 160)
    }

    @Test func stoppingBetweenEpochsAndBeforeTheFirst() throws {
      let data = try clusters(64)
      let trainer = try trainer(norm: true)
      let before = trainer.model.bits
      let none = try trainer.fit(data, epochs: 3, batchSize: 32) { _ in false }
      #expect(none.epochs.isEmpty && trainer.step == 0 && changed(before, trainer.model.bits) == [])
      let one = try trainer.fit(data, epochs: 3, batchSize: 32) { event in
        if case .epoch = event { false } else { true }
      }
      #expect(one.epochs.count == 1 && trainer.step == 2)
      #expect(try trainer.fit(data, epochs: 0, batchSize: 32).epochs.isEmpty && trainer.step == 2)
    }
  }
}
