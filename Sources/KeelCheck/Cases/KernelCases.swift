import KeelCore
import KeelPrimitives

/// The tables of kernel cases, one file a group of families.
public enum KernelCases {
  /// Every case, in single and in double precision, and what there is in types of storage.
  public static let all: [KernelCase] =
    table(.float32) + table(.float64) + [.float16, .bfloat16].flatMap { stored(in: $0) }

  private static func table(_ dtype: DType) -> [KernelCase] {
    let families = [
      gemm, gemmUpdate, gemmBatchNorm, affineProduct, batchNorm, elementwise, reduce, softmax, data, optimizer,
    ]
    return families.flatMap { $0(dtype) }
  }

  /// The cases of one of `KernelFamilies`.
  public static func of(_ family: String) -> [KernelCase] { all.filter { $0.family == family } }
}
