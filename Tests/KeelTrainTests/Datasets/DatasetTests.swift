import KeelCore
import KeelTrain
import Testing

@Suite struct DatasetTests {
  private func dataset(
    _ features: TensorType = TensorType([4, 2, 3], .uint8), labels: [Int32] = [0, 1, 2, 1], classCount: Int = 3,
    scale: Double = 0.5
  ) throws -> Dataset {
    try Dataset(
      name: "toy", features: HostTensor(zeros: features), labels: HostTensor([labels.count], labels),
      classCount: classCount, scale: scale)
  }

  private func says<Result>(_ expected: String, _ body: () throws -> Result) {
    do { Issue.record("no error, but \(try body())") } catch { #expect("\(error)" == "[dataset] toy: " + expected) }
  }

  @Test func counts() throws {
    let dataset = try dataset()
    #expect(dataset.count == 4 && dataset.featureCount == 6 && dataset.featureShape == [2, 3])
  }

  @Test func partsMustFit() {
    says("4 examples u8[4, 2, 3] for 3 labels") { try dataset(labels: [0, 1, 2]) }
    says("label 3 at index 2, expected 0…2") { try dataset(labels: [0, 1, 3, 9]) }
    says("label -1 at index 0, expected 0…2") { try dataset(labels: [-1, 1, 3, 9]) }
    says("expects at least one example, got f32[0, 5]") { try dataset(TensorType([0, 5]), labels: []) }
    says("expects at least one example, got f32[4, 0]") { try dataset(TensorType([4, 0])) }
    says("expects features u8[n, ...] or f32[n, ...], got i32[4, 5]") { try dataset(TensorType([4, 5], .int32)) }
    says("expects features u8[n, ...] or f32[n, ...], got f32[4]") { try dataset(TensorType([4])) }
    says("expects at least one class, got 0") { try dataset(classCount: 0) }
    says("expects a scale above 0, got nan") { try dataset(scale: .nan) }
    says("expects labels i32[n], got f32[4]") {
      try Dataset(
        name: "toy", features: HostTensor(zeros: TensorType([4, 1])), labels: HostTensor(zeros: TensorType([4])),
        classCount: 2)
    }
  }

  @Test func rowsAndPrefix() throws {
    let features = try HostTensor([4, 2], [UInt8(0), 1, 2, 3, 4, 5, 6, 7])
    let all = try Dataset(name: "toy", features: features, labels: HostTensor([4], [Int32(3), 2, 1, 0]), classCount: 4)
    let middle = try all.rows(1..<3)
    #expect(middle.features.bytes == [2, 3, 4, 5] && middle.targets.doubles == [2, 1])
    #expect(middle.classCount == 4 && middle.name == "toy")
    #expect(try all.prefix(1).targets.doubles == [3])
    #expect(try all.prefix(99).count == 4)
    says("expects a prefix of at least 1 example, got 0") { try all.prefix(0) }
    says("expects examples of 0..<4, got 2..<5") { try all.rows(2..<5) }
    says("expects examples of 0..<4, got 2..<2") { try all.rows(2..<2) }
  }

  @Test func pairsMustAgree() throws {
    let good = try dataset()
    #expect(try DatasetPair(train: good, test: good.prefix(1)).test.count == 1)
    says("expects examples as in training, u8[4, 2, 3] × 0.5, got u8[4, 3, 2] × 0.5") {
      try DatasetPair(train: good, test: dataset(TensorType([4, 3, 2], .uint8)))
    }
    says("expects examples as in training, u8[4, 2, 3] × 0.5, got u8[4, 2, 3] × 1.0") {
      try DatasetPair(train: good, test: dataset(scale: 1))
    }
    says("expects 3 classes as in training, got 4") { try DatasetPair(train: good, test: dataset(classCount: 4)) }
  }

  @Test func digits() throws {
    let digits = try Digits.load()
    #expect(digits.train.features.type == TensorType([1437, 8, 8], .uint8))
    #expect(digits.test.features.type == TensorType([360, 8, 8], .uint8))
    #expect(digits.train.scale == 1.0 / 16 && digits.train.classCount == 10 && digits.train.name == "digits")
    // The first image of the file, a nought, and the last, an eight.
    #expect(digits.train.features.bytes.prefix(16) == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0])
    #expect(digits.train.targets.doubles.prefix(10) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    #expect(digits.test.targets.doubles.last == 8)
    func histogram(_ dataset: Dataset) -> [Int] {
      (0..<10).map { c in dataset.targets.doubles.count { $0 == Double(c) } }
    }
    #expect(histogram(digits.train) == [143, 146, 142, 146, 144, 145, 144, 143, 141, 143])
    #expect(histogram(digits.test) == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37])
    #expect(digits.train.features.bytes.max() == 16)
  }
}
