import KeelCore
import Testing

@Suite struct HostTensorTests {
  private func says(_ expected: String, _ body: () throws -> HostTensor) {
    do { Issue.record("no error, but \(try body().type)") } catch { #expect("\(error)" == expected) }
  }

  @Test func keepsWhatItWasGiven() throws {
    #expect(try HostTensor([2], [Float(1.5), -.infinity]).floats == [1.5, -.infinity])
    #expect(try HostTensor([2], [1.0 / 3, -0.0]).doubles == [1.0 / 3, 0])
    #expect(try HostTensor([2], [Int32.min, .max]).doubles == [-2_147_483_648, 2_147_483_647])
    #expect(try HostTensor([3], [UInt8(0), 128, 255]).floats == [0, 128, 255])
    #expect(HostTensor(zeros: TensorType([2, 2], .float64)).bytes == [UInt8](repeating: 0, count: 32))
    #expect(try HostTensor(.scalar, [Float(2)]).bytes == [0, 0, 0, 0x40])
  }

  @Test func countsMustFit() {
    says("[tensor] f32[2] expects 8 bytes, got 4") { try HostTensor([2], [Float(1)]) }
    says("[tensor] u8[2, 2] expects 4 bytes, got 3") { try HostTensor([2, 2], [UInt8(1), 2, 3]) }
    says("[tensor] i32[0] expects 0 bytes, got 4") { try HostTensor([0], [Int32(1)]) }
    says("[tensor] f64[1] expects 8 bytes, got 7") {
      try HostTensor(TensorType([1], .float64), bytes: [UInt8](repeating: 0, count: 7))
    }
  }

  @Test func shapesThatNoTensorHasAreRefused() throws {
    says("[tensor] f32[1099511627776, 1099511627776] expects 9223372036854775807 bytes, got 0") {
      try HostTensor([1 << 40, 1 << 40], [Float]())
    }
    says("[tensor] f32[1099511627776, 16777216] expects 9223372036854775807 bytes, got 4") {
      try HostTensor([1], [Float(1)]).reshaped(to: [1 << 40, 1 << 24])
    }
    says("[tensor] expects extents of 0 or more, got f32[-1, -2]") { try HostTensor([-1, -2], [Float(1), 2]) }
    says("[tensor] expects extents of 0 or more, got f32[-1]") { try HostTensor([0], [Float]()).reshaped(to: [-1]) }
    says("[tensor] expects extents of 0 or more, got u8[-3]") {
      try HostTensor(TensorType([-3], .uint8), values: [])
    }
    for shape: Shape in [[-1], [-1, -2], [1 << 40, 1 << 40], [1 << 62]] {
      #expect(try HostTensor(zeros: TensorType(shape)) == HostTensor([0], [Float]()))
    }
    #expect(HostTensor(zeros: TensorType([3, 0])).shape == [3, 0])
  }

  @Test func conversions() throws {
    let values: [Double] = [0, 1, -1, 255, 256, 1e10, -1e10, 2.75, .nan]
    let tensor = try HostTensor([9], values)
    #expect(tensor.converted(to: .uint8).bytes == [0, 1, 0, 255, 255, 255, 0, 2, 0])
    #expect(
      tensor.converted(to: .int32).doubles == [0, 1, -1, 255, 256, 2_147_483_647, -2_147_483_648, 2, 0])
    #expect(tensor.converted(to: .float32).floats.prefix(8) == values.map { Float($0) }.prefix(8))
    #expect(tensor.converted(to: .float32).floats[8].isNaN)
    #expect(tensor.converted(to: .float64) == tensor)
    for dtype in DType.allCases {
      let small = try HostTensor(TensorType([2, 2], dtype), values: [0, 1, 2, 200])
      #expect(small.doubles == [0, 1, 2, 200])
      for other in DType.allCases { #expect(small.converted(to: other).converted(to: dtype) == small) }
    }
  }

  @Test func reshapedAndRows() throws {
    let tensor = try HostTensor([3, 2], [Int32(0), 1, 2, 3, 4, 5])
    #expect(try tensor.reshaped(to: [6]).doubles == [0, 1, 2, 3, 4, 5])
    #expect(try tensor.rows(1..<3) == HostTensor([2, 2], [Int32(2), 3, 4, 5]))
    #expect(try tensor.rows(1..<1) == HostTensor(zeros: TensorType([0, 2], .int32)))
    says("[tensor] i32[4] expects 16 bytes, got 24") { try tensor.reshaped(to: [4]) }
    says("[tensor] rows 2..<4 expected inside i32[3, 2]") { try tensor.rows(2..<4) }
    says("[tensor] rows 0..<1 expected inside i32[]") { try HostTensor(.scalar, [Int32(1)]).rows(0..<1) }
  }

  @Test func types() {
    #expect(DType.allCases.map(\.byteCount) == [4, 8, 2, 2, 4, 1])
    #expect(DType.allCases.map(\.openCLName) == ["float", "double", "half", "bfloat16", "int", "uchar"])
    #expect(DType.allCases.filter(\.isFloatingPoint) == [.float32, .float64, .float16, .bfloat16])
    #expect(DType.allCases.filter(\.isStorageOnly) == [.float16, .bfloat16])
    #expect(DType.allCases.map(\.arithmetic) == [.float32, .float64, .float32, .float32, .int32, .uint8])
  }
}
