internal import COpenCL

/// Where the buffers, programs and queues of one device live.
// Sendable unchecked: an immutable handle; OpenCL calls on it are thread-safe.
public final class Context: @unchecked Sendable {
  let handle: cl_context
  /// The one device of the context.
  public let device: Device

  /// A context of that device alone. Throws `CLError` when the driver refuses.
  public init(device: Device) throws(CLError) {
    self.device = device
    let properties: [cl_context_properties] = [
      cl_context_properties(CL_CONTEXT_PLATFORM), cl_context_properties(bitPattern: device.platform.handle), 0,
    ]
    var id: cl_device_id? = device.handle
    var status: cl_int = 0
    let context = clCreateContext(properties, 1, &id, nil, nil, &status)
    handle = try created(context, status, "clCreateContext", device.name)
  }

  deinit { clReleaseContext(handle) }
}
