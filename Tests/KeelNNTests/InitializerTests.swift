import KeelCore
import Testing

@testable import KeelNN

@Suite struct InitializerTests {
  private let type = TensorType([200, 300])

  private func values(_ initializer: Initializer, seed: UInt64 = 1, position: Int = 0) throws -> [Double] {
    try initializer.values(type, seed: seed, position: position).doubles
  }

  private func moments(_ values: [Double]) -> (mean: Double, deviation: Double) {
    let mean = values.reduce(0, +) / Double(values.count)
    return (mean, (values.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(values.count)).squareRoot())
  }

  @Test func haveTheMomentsOfTheirSources() throws {
    // The deviation, and for uniform ones the bound, √3 times as large.
    let cases: [(Initializer, deviation: Double, isUniform: Bool)] = [
      (.heNormal, (2 / 200.0).squareRoot(), false), (.heUniform, (2 / 200.0).squareRoot(), true),
      (.fanInUniform, (1 / 200.0 / 3).squareRoot(), true),
      (.glorotNormal, (2 / 500.0).squareRoot(), false), (.glorotUniform, (2 / 500.0).squareRoot(), true),
      (.normal(0.3), 0.3, false), (.uniform(0.3), 0.3 / 3.squareRoot(), true),
    ]
    for (initializer, deviation, isUniform) in cases {
      let drawn = try values(initializer)
      let (mean, measured) = moments(drawn)
      let largest = drawn.map { abs($0) }.max() ?? 0
      // 60,000 draws: the mean is within 5 of its standard errors, the deviation within 2 %.
      #expect(abs(mean) < 5 * deviation / 60_000.squareRoot(), "\(initializer)")
      #expect(abs(measured / deviation - 1) < 0.02, "\(initializer)")
      if isUniform {
        #expect(largest <= deviation * 3.squareRoot() * (1 + 1e-6) && largest > deviation * 1.7, "\(initializer)")
      } else {
        #expect(largest > 3.5 * deviation, "\(initializer)")
      }
    }
  }

  @Test func constantsAreConstant() throws {
    for (initializer, value) in [(Initializer.zeros, 0.0), (.ones, 1), (.constant(-2.5), -2.5)] {
      #expect(try values(initializer).allSatisfy { $0 == value })
    }
  }

  @Test func dependOnSeedAndPositionAlone() throws {
    #expect(try values(.heNormal) == values(.heNormal))
    #expect(try values(.heNormal) != values(.heNormal, seed: 2))
    #expect(try values(.heNormal) != values(.heNormal, position: 1))
    let double = try Initializer.heNormal.values(TensorType([200, 300], .float64), seed: 1, position: 0)
    #expect(try double.converted(to: .float32).doubles == values(.heNormal))
  }

  /// Key 42, stream 2⁶² of Philox4x32-10, worked out in another language: changes only when old seeds are to give other networks.
  @Test func keepTheirNumbers() throws {
    func draw(_ initializer: Initializer) throws -> [Double] {
      try initializer.values(TensorType([4], .float64), seed: 42, position: 0).doubles
    }
    let drawn = try draw(.uniform(1))
    #expect(drawn == uniform)
    // log and cos may differ in the last bit from one C library to another.
    #expect(try zip(draw(.normal(1)), normal).allSatisfy { abs($0 - $1) < 1e-14 })
  }

  @Test func fansCountTheLeadingAxes() {
    #expect(Initializer.fans([784, 32]) == (784, 32))
    #expect(Initializer.fans([3, 3, 16, 32]) == (144, 288))
    #expect(Initializer.fans([5]) == (5, 5))
    #expect(Initializer.fans([]) == (1, 1))
  }

  @Test func refuseWhatCannotBe() {
    #expect(throws: SettingsError("initializer", "expects a finite bound of 0 or more, got -1.0")) {
      try values(.uniform(-1))
    }
    #expect(throws: SettingsError("initializer", "expects a finite constant, got nan")) {
      try values(.constant(.nan))
    }
    #expect(throws: SettingsError("initializer", "expects a floating-point type, got i32[2]")) {
      try Initializer.ones.values(TensorType([2], .int32), seed: 1, position: 0)
    }
  }
}

private let normal = [1.1802367713796127, -0.5327426321074736, 0.07868259770069588, -0.4552432664715043]
private let uniform = [0.022268295288085938, -0.9476439952850342, -0.3456144332885742, -0.2958029508590698]
