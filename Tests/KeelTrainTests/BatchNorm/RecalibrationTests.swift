import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  @Suite struct Recalibrating {
    static let dtypes: [DType] = [.float32, .float64]

    /// The first batch norm of a network: statistics of the data set itself, on batches of uneven size, in any order.
    @Test(arguments: TrainingTests.devices, dtypes)
    func exactGivesTheStatisticsOfTheDataSet(device: Device, dtype: DType) throws {
      guard TrainingTests.has(device, dtype, "exact recalibration") else { return }
      var worst = 0.0
      for (offset, variance) in [(0.0, BatchNorm.RunningVariance.unbiased), (100, .biased), (10_000, .unbiased)] {
        let rows = try noise(133, 5, offset: offset)
        let norm = BatchNorm(5, runningVariance: variance)
        let trainer = try trainer(Sequential([norm, Linear(5, 2)]), on: device, dtype)
        let expected = statistics(rows, unbiased: variance == .unbiased)
        for (batchSize, shuffles) in [(133, false), (32, false), (32, true), (65, true)] {
          let result = try trainer.recalibrate(on: data(rows), batchSize: batchSize, shuffles: shuffles)
          #expect(result.samples == 133)
          #expect(result.batches == (133 + batchSize - 1) / batchSize)
          #expect(result.layers.map(\.path) == ["layers.0"])
          #expect(result.layers[0].count == 133)
          // The mean within a fraction of the deviation, not of the mean: that is what normalizing needs.
          worst = max(
            worst, departure(result.layers[0].mean.map { $0 - offset }, expected.mean.map { $0 - offset }),
            departure(result.layers[0].variance, expected.variance))
          #expect(norm.runningMean?.value?.dtype == dtype)
          let stored = try #require(norm.runningVariance?.value?.doubles)
          #expect(departure(stored, result.layers[0].variance) < 1e-7)
        }
      }
      #expect(worst < (dtype == .float64 ? 1e-11 : 1e-6))
      print("exact recalibration, \(dtype) on \(device.name): departs by \(worst) from float64 statistics")
    }

    /// 98 values around 2 in the first batch, 4 around 34 in the second: averages of batches tell neither the mean nor
    /// the spread of the 102.
    @Test(arguments: TrainingTests.devices)
    func averageOfBatchesIsAnotherThing(device: Device) throws {
      let rows = (0..<102).map { index -> [Double] in
        let sign = index % 2 == 0 ? 1.0 : -1
        return [Double(Float(index < 98 ? 2.0068 + sign * 0.85 : 34.4732 + sign * 0.74))]
      }
      let norm = BatchNorm(1)
      let trainer = try trainer(Sequential([norm, Linear(1, 2)]), on: device)
      let data = try data(rows)
      let exact = try trainer.recalibrate(on: data, mode: .exact, batchSize: 98, shuffles: false).layers[0]
      let all = statistics(rows)
      #expect(departure(exact.mean, all.mean) < 1e-6)
      #expect(departure(exact.variance, all.variance) < 1e-6)

      let average = try trainer.recalibrate(on: data, mode: .averageOfBatches, batchSize: 98, shuffles: false).layers[0]
      let (first, second) = (statistics(Array(rows[..<98])), statistics(Array(rows[98...])))
      #expect(departure(average.mean, [(first.mean[0] + second.mean[0]) / 2]) < 1e-6)
      #expect(departure(average.variance, [(first.variance[0] + second.variance[0]) / 2]) < 1e-6)

      #expect(abs(exact.mean[0] - 3.28) < 0.005 && abs(exact.variance[0] - 40.83) < 0.005)
      #expect(abs(average.mean[0] - 18.24) < 0.005 && abs(average.variance[0] - 0.73) < 0.005)
      // The model has those that were asked for last.
      #expect(departure(norm.runningMean?.value?.doubles ?? [], average.mean) < 1e-6)
      print(
        "98 values around 2 and 4 around 34 on \(device.name): average of batches \(average.mean[0]) / "
          + "\(average.variance[0]), exact \(exact.mean[0]) / \(exact.variance[0])")
    }

    /// A later batch norm sees what stands behind normalization by the batch: both modes against the formulas, written
    /// out on the host in double precision.
    @Test(arguments: TrainingTests.devices, dtypes)
    func laterLayersSeeWhatTrainingShowsThem(device: Device, dtype: DType) throws {
      guard TrainingTests.has(device, dtype, "recalibration of later layers") else { return }
      let rows = try noise(50, 6, offset: 3)
      for variance in BatchNorm.RunningVariance.allCases {
        let (first, second) = (Linear(6, 4, bias: false), Linear(4, 3))
        let norms = (BatchNorm(4, runningVariance: variance), BatchNorm(3, runningVariance: variance))
        let trainer = try trainer(
          Sequential([first, norms.0, ReLU(), second, norms.1, Linear(3, 2)]), on: device, dtype)
        norms.0.scale?.value = try HostTensor(TensorType([4], dtype), values: [1.5, 0.5, -1, 2])
        norms.0.shift?.value = try HostTensor(TensorType([4], dtype), values: [0.1, -0.2, 0.3, 0])

        var (inputs, outputs): ([[[Double]]], [[[Double]]]) = ([], [])
        for start in stride(from: 0, to: rows.count, by: 16) {
          let z = try apply(first, Array(rows[start..<min(start + 16, rows.count)]))
          let h = try normalize(z, norms.0).map { $0.map { max($0, 0) } }
          inputs.append(z)
          outputs.append(try apply(second, h))
        }
        let unbiased = variance == .unbiased
        let exact = try trainer.recalibrate(on: data(rows), mode: .exact, batchSize: 16, shuffles: false)
        let average = try trainer.recalibrate(on: data(rows), mode: .averageOfBatches, batchSize: 16, shuffles: false)
        #expect(exact.batches == 4)
        #expect(exact.layers.map(\.path) == ["layers.1", "layers.4"])
        let tolerance = dtype == .float64 ? 1e-12 : 2e-6
        for (layer, batches) in [inputs, outputs].enumerated() {
          let all = statistics(batches.flatMap { $0 }, unbiased: unbiased)
          #expect(departure(exact.layers[layer].mean, all.mean) < tolerance)
          #expect(departure(exact.layers[layer].variance, all.variance) < tolerance)
          let each = batches.map { statistics($0, unbiased: unbiased) }
          #expect(departure(average.layers[layer].mean, mean(of: each.map(\.mean))) < tolerance)
          #expect(departure(average.layers[layer].variance, mean(of: each.map(\.variance))) < tolerance)
        }
        // The two modes are told apart by more than rounding.
        #expect(departure(exact.layers[1].variance, average.layers[1].variance) > 1e-3)
      }
    }

    @Test func nothingElseChanges() throws {
      let device = try TrainingTests.device()
      let data = try clusters(90)
      let trainers = try (0..<2).map { _ in try trainer(network(), on: device) }
      for trainer in trainers { try trainer.fit(data, epochs: 1, batchSize: 32) }
      let model = trainers[0].model
      let before = model.bits
      try trainers[0].recalibrate(on: data, batchSize: 32, seed: 3)
      #expect(changed(before, model.bits) == ["layers.1.runningMean", "layers.1.runningVariance"])
      let once = model.bits
      try trainers[0].recalibrate(on: data, batchSize: 32, seed: 3)
      #expect(changed(once, model.bits).isEmpty)
      #expect(trainers[0].step == trainers[1].step)

      // Training goes on as if nothing had been: it does not read the running statistics.
      for trainer in trainers { try trainer.fit(data, epochs: 1, batchSize: 32) }
      let difference = changed(try trainers[0].deviceBits(), try trainers[1].deviceBits())
      #expect(difference == ["layers.1.runningMean", "layers.1.runningVariance"])
    }

    /// Statistics that follow too slowly make a trained network bad; recalibration makes it good again.
    @Test func evaluationProfits() throws {
      let data = try clusters(400)
      let trainer = try trainer(
        Sequential([Linear(8, 16), BatchNorm(16, momentum: .old(0.999)), ReLU(), Linear(16, 4)]),
        on: TrainingTests.device())
      trainer.learningRate = 0.02
      try trainer.fit(data, epochs: 10, batchSize: 32)
      let before = try trainer.evaluate(data)
      for mode in Recalibration.Mode.allCases {
        try trainer.recalibrate(on: data, mode: mode, batchSize: 32)
        let after = try trainer.evaluate(data)
        #expect(after.loss < before.loss / 2, "\(mode)")
        print("evaluation after slow statistics: loss \(before.loss), recalibrated by \(mode) \(after.loss)")
      }
    }

    @Test func anyModelWillDo() throws {
      let trainer = try trainer(
        Sequential([Residual(8), BatchNorm(8, tracksRunningStatistics: false), Linear(8, 4)]),
        on: TrainingTests.device())
      #expect(try trainer.recalibrate(on: clusters(40), batchSize: 16).layers.map(\.path) == ["layers.0.norm"])
    }

    @Test func frozenLayersKeepTheirs() throws {
      let norms = (BatchNorm(8), BatchNorm(16))
      let trainer = try trainer(
        Sequential([norms.0, Linear(8, 16), norms.1, Linear(16, 4)]), on: TrainingTests.device())
      norms.0.freeze()
      let result = try trainer.recalibrate(on: clusters(40), batchSize: 16)
      #expect(result.layers.map(\.path) == ["layers.2"])
      #expect(norms.0.runningMean?.value?.doubles == [Double](repeating: 0, count: 8))
      // The layer behind saw what the frozen one gives in evaluation: the data as they are.
      let rows = try clusters(40).features.doubles
      let linear = try #require(trainer.model.root as? Sequential).layers[1] as? Linear
      let z = try apply(
        try #require(linear), (0..<40).map { Array(rows[$0 * 8..<$0 * 8 + 8]).map { $0 / (1 + 1e-5).squareRoot() } })
      #expect(departure(result.layers[0].mean, statistics(z).mean) < 1e-6)
    }

    @Test(arguments: ["runningMean", "runningVariance"]) func aStatisticFrozenAloneKeepsItsValue(name: String) throws {
      let trainer = try trainer(network(), on: TrainingTests.device())
      try trainer.model.freeze("layers.1.\(name)")
      let before = trainer.model.bits
      try trainer.recalibrate(on: clusters(40), batchSize: 16)
      let other = name == "runningMean" ? "runningVariance" : "runningMean"
      #expect(changed(before, trainer.model.bits) == ["layers.1.batchesTracked", "layers.1.\(other)"])
    }

    @Test func layersOfOnesOwnThatFollowNoBatch() throws {
      let device = try TrainingTests.device()
      let data = try clusters(40)
      let mixed = try trainer(Sequential([Drift(features: 8), Linear(8, 4), BatchNorm(4)]), on: device)
      let before = mixed.model.bits
      #expect(try mixed.recalibrate(on: data, batchSize: 16).layers.map(\.path) == ["layers.2"])
      #expect(
        changed(before, mixed.model.bits)
          == ["layers.2.batchesTracked", "layers.2.runningMean", "layers.2.runningVariance"])
      let alone = try trainer(Sequential([Drift(features: 8), Linear(8, 4)]), on: device)
      #expect(
        message { try alone.recalibrate(on: data, batchSize: 16) }
          == "[train] recalibration expects running statistics that follow those of batches, got none")
    }

    @Test func whatCantBeIsSaid() throws {
      let device = try TrainingTests.device()
      let plain = try trainer(network(norm: false), on: device)
      let data = try clusters(33)
      #expect(
        message { try plain.recalibrate(on: data) }
          == "[train] recalibration expects a network with running statistics, got none")
      let trainer = try trainer(network(), on: device)
      #expect(message { try trainer.recalibrate(on: data, batchSize: 0) }.contains("a batch size above 0, got 0"))
      let single = message { try trainer.recalibrate(on: data, batchSize: 32) }
      #expect(single.hasPrefix("[train] the last batch has 1 sample: [batchNormTraining] layers.1: "), "\(single)")
      #expect(single.hasSuffix("Choose another batch size, or leave the short batch out"))
      #expect(try trainer.recalibrate(on: data, batchSize: 32, dropsLast: true).samples == 32)

      let before = trainer.model.bits
      var rows = try noise(40, 8, offset: 0)
      rows[39][7] = .nan
      let bad = try Dataset(
        name: "bad", features: HostTensor([40, 8], rows.flatMap { $0.map { Float($0) } }),
        labels: HostTensor([40], [Int32](repeating: 0, count: 40)), classCount: 4)
      #expect(
        message { try trainer.recalibrate(on: bad, batchSize: 20) }.contains("layers.1.runningMean that is not finite"))
      #expect(changed(before, trainer.model.bits).isEmpty)

      try trainer.model.freeze()
      #expect(message { try trainer.recalibrate(on: data) }.contains("that are not frozen, all are"))
    }

    private func trainer(_ layer: any Layer, on device: Device, _ dtype: DType = .float32) throws -> Trainer {
      try Trainer(layer, loss: .softmaxCrossEntropy, optimizer: Adam(), on: device, dtype: dtype, seed: 4)
    }

    private func data(_ rows: [[Double]]) throws -> Dataset {
      try Dataset(
        name: "rows", features: HostTensor([rows.count, rows[0].count], rows.flatMap { $0.map { Float($0) } }),
        labels: HostTensor([rows.count], rows.indices.map { Int32($0 % 2) }), classCount: 2)
    }

    /// Standard normal numbers, each column wider than the one before, that single precision holds exactly.
    private func noise(_ count: Int, _ columns: Int, offset: Double) throws -> [[Double]] {
      var random = Philox(seed: 11)
      return (0..<count).map { _ in
        (0..<columns).map { Double(Float(offset + Double($0 + 1) * 0.5 * random.nextNormal())) }
      }
    }
  }
}

/// Moves its statistics towards numbers that no batch has.
private struct Drift: Layer {
  let mean: RunningStatistic
  let variance: RunningStatistic

  init(features: Int) {
    mean = RunningStatistic([features], initialValue: 0)
    variance = RunningStatistic([features], initialValue: 1)
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    let builder = x.builder
    let target = builder.constant(2, mean.shape, x.dtype)
    let moved = builder.append(
      .batchNormRunningUpdate(BatchNormRunningUpdate(weight: .fixed(0.1), varianceFactor: 1)),
      [mean.tensor(in: builder), variance.tensor(in: builder)] + Array(repeating: target, count: 4))
    mean.update(with: moved[0])
    variance.update(with: moved[1])
    return x
  }
}

/// Mean and variance of each column in double precision, the mean in two passes.
private func statistics(_ rows: [[Double]], unbiased: Bool = true) -> (mean: [Double], variance: [Double]) {
  let count = Double(rows.count)
  let columns = rows[0].indices.map { column in rows.map { $0[column] } }
  let mean = columns.map { values in
    let rough = values.reduce(0, +) / count
    return rough + values.reduce(0) { $0 + ($1 - rough) } / count
  }
  let squares = zip(columns, mean).map { values, mean in values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } }
  return (mean, squares.map { $0 / (unbiased ? count - 1 : count) })
}

private func mean(of lists: [[Double]]) -> [Double] {
  lists[0].indices.map { index in lists.reduce(0) { $0 + $1[index] } / Double(lists.count) }
}

/// x·W + b on the host.
private func apply(_ linear: Linear, _ rows: [[Double]]) throws -> [[Double]] {
  let weight = try #require(linear.weight.value).doubles
  let bias = linear.bias?.value?.doubles ?? [Double](repeating: 0, count: linear.options.outputs)
  return rows.map { row in
    bias.indices.map { column in
      row.indices.reduce(bias[column]) { $0 + row[$1] * weight[$1 * bias.count + column] }
    }
  }
}

/// Batch norm by the statistics of the rows, on the host.
private func normalize(_ rows: [[Double]], _ norm: BatchNorm) throws -> [[Double]] {
  let (mean, variance) = statistics(rows, unbiased: false)
  let scale = try #require(norm.scale?.value).doubles
  let shift = try #require(norm.shift?.value).doubles
  return rows.map { row in
    row.indices.map {
      (row[$0] - mean[$0]) / (variance[$0] + norm.options.epsilon).squareRoot() * scale[$0] + shift[$0]
    }
  }
}
