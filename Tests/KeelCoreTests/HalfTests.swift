import KeelCore
import Testing

/// Values in 16 bits: rounded once, to nearest, ties to even.
@Suite struct HalfTests {
  private func bits(_ values: [Double], _ dtype: DType) throws -> [UInt16] {
    let bytes = try HostTensor(TensorType([values.count], dtype), values: values).bytes
    return stride(from: 0, to: bytes.count, by: 2).map { UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8 }
  }

  @Test func float16Values() throws {
    // 1 + 2⁻¹¹ is a tie; with 2⁻⁴⁰ more it is none, which a detour by float32 would not see.
    let tie = 1 + 0x1p-11
    #expect(
      try bits([1, -2, 0.1, tie, tie + 0x1p-40, tie - 0x1p-40, tie + 0x1p-10], .float16)
        == [0x3C00, 0xC000, 0x2E66, 0x3C00, 0x3C01, 0x3C00, 0x3C02])
    // Overflow begins at the tie above the largest value; zeros keep their sign.
    #expect(
      try bits([65504, 65519.99, 65520, -1e300, .infinity, 0, -0.0], .float16)
        == [0x7BFF, 0x7BFF, 0x7C00, 0xFC00, 0x7C00, 0, 0x8000])
    // Subnormals are multiples of 2⁻²⁴.
    #expect(
      try bits([0x1p-14, 0x1p-24, 0x1p-25, 0x1.8p-25, -0x1.8p-24, 0x1p-14 - 0x1p-25, 1e-300], .float16)
        == [0x0400, 1, 0, 1, 0x8002, 0x0400, 0])
  }

  @Test func bfloat16Values() throws {
    let tie = 1 + 0x1p-8
    #expect(
      try bits([1, -2, 0.1, tie, tie + 0x1p-40, tie - 0x1p-40, tie + 0x1p-7], .bfloat16)
        == [0x3F80, 0xC000, 0x3DCD, 0x3F80, 0x3F81, 0x3F80, 0x3F82])
    #expect(
      try bits([0x1.FEp127, 0x1.FEFFFFFFFp127, 0x1.FFp127, -0x1.FFp127, 1e300, -.infinity, 0, -0.0], .bfloat16)
        == [0x7F7F, 0x7F7F, 0x7F80, 0xFF80, 0x7F80, 0xFF80, 0, 0x8000])
    // Subnormals are multiples of 2⁻¹³³.
    #expect(
      try bits([0x1p-126, 0x1p-133, 0x1p-134, 0x1.0000000001p-134, -0x1.8p-133, 1e-300, -1e-300], .bfloat16)
        == [0x0080, 1, 0, 1, 0x8002, 0, 0x8000])
  }

  @Test(arguments: [DType.float16, .bfloat16]) func everyValueSurvives(_ dtype: DType) throws {
    let all = (0...UInt16.max).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    let tensor = try HostTensor(TensorType([65536], dtype), bytes: all)
    let (doubles, floats) = (tensor.doubles, tensor.floats)
    let back = try HostTensor(tensor.type, values: doubles)
    let exponent: UInt16 = dtype == .float16 ? 0x7C00 : 0x7F80
    var nans = 0
    for (bits, again) in try zip(0...UInt16.max, self.bits(back.doubles, dtype)) {
      let index = Int(bits)
      if bits & 0x7FFF > exponent {
        nans += 1
        #expect(doubles[index].isNaN && floats[index].isNaN && again & 0x7FFF > exponent)
      } else {
        #expect(again == bits && Double(floats[index]) == doubles[index])
      }
    }
    #expect(nans == 2 * Int(0x7FFF - exponent))
  }

  /// Between neighbours the nearest wins, and of ties the one whose last bit is 0.
  @Test(arguments: [DType.float16, .bfloat16]) func nearest(_ dtype: DType) throws {
    let exponent: UInt16 = dtype == .float16 ? 0x7C00 : 0x7F80
    let all = (0..<exponent).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    let values = try HostTensor(TensorType([Int(exponent)], dtype), bytes: all).doubles
    let middles = zip(values, values.dropFirst()).map { ($0 + $1) / 2 }
    let places = UInt16(0)..<UInt16(middles.count)
    #expect(try bits(middles, dtype) == places.map { $0 + ($0 & 1) })
    #expect(try bits(middles.map(\.nextDown), dtype) == Array(places))
    #expect(try bits(middles.map { -$0.nextUp }, dtype) == places.map { ($0 + 1) | 0x8000 })
  }

  @Test(arguments: DType.allCases.filter(\.isFloatingPoint)) func limits(_ dtype: DType) throws {
    let limit = dtype.greatestFiniteMagnitude
    let values = [1 + dtype.epsilon, 1 + dtype.epsilon / 4, limit]
    #expect(try HostTensor(TensorType([3], dtype), values: values).doubles == [1 + dtype.epsilon, 1, limit])
  }
}
